#!/usr/bin/env node
// The package resolves itself, so `--conditions=@effect-ray/source` runs the sources and everyone else runs `dist`.
await import("effect-ray/bin")
