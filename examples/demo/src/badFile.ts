/**
 * A file that is deliberately not text: it begins as valid UTF-8 and continues with invalid bytes.
 */
import { Effect } from "effect"
import * as Fs from "node:fs/promises"
import * as Os from "node:os"
import * as Path from "node:path"
import type { TextFile } from "./files.ts"

/** Its name in the report. */
export const badFile = "bad-on-purpose.txt"

/** Written to a temporary folder, read like any other file, and removed again. */
export const readBadFile: Effect.Effect<TextFile> = Effect.acquireUseRelease(
  Effect.promise(() => Fs.mkdtemp(Path.join(Os.tmpdir(), "effect-ray-demo-"))),
  (folder) =>
    Effect.promise(async () => {
      const path = Path.join(folder, badFile)
      await Fs.writeFile(path, Buffer.from([...Buffer.from("This line is text.\n"), 0xff, 0xfe, 0x00]))
      return { path: badFile, bytes: await Fs.readFile(path) }
    }),
  (folder) => Effect.promise(() => Fs.rm(folder, { recursive: true, force: true }))
)
