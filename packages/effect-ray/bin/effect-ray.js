#!/usr/bin/env node
// Told here because an older Node could not even read the program.
const [major, minor] = process.versions.node.split(".").map(Number)
if (major < 22 || (major === 22 && minor < 19)) {
  console.error(`effect-ray needs Node 22.19 or newer, and this is ${process.versions.node} (${process.execPath})`)
  process.exit(2)
}
// The package resolves itself, so `--conditions=@effect-ray/source` runs the sources and everyone else runs `dist`.
await import("effect-ray/bin")
