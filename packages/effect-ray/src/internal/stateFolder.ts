/** `.effect-ray` in the working directory: what a development Postgres and Ray keep between runs. */
import * as LocalRay from "@effect-ray/ray/LocalRay"
import type { RayError } from "@effect-ray/ray/RayError"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Path from "effect/Path"
import type { PlatformError } from "effect/PlatformError"

/** Makes the folder unless it exists, for this user alone and ignored by git. Returns its absolute path. */
export const make: Effect.Effect<string, PlatformError | RayError, FileSystem.FileSystem | Path.Path> = Effect.gen(
  function*() {
    const fs = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    const folder = yield* LocalRay.makeStateFolder(".effect-ray")
    const ignore = path.join(folder, ".gitignore")
    if (!(yield* fs.exists(ignore))) yield* write(ignore, "*\n")
    return folder
  }
)

/** Writes a file of the folder as a new file, for this user alone, and never through an existing one of that name. */
export const write = Effect.fnUntraced(function*(file: string, text: string) {
  const fs = yield* FileSystem.FileSystem
  yield* fs.remove(file, { force: true })
  yield* fs.writeFileString(file, text, { flag: "wx", mode: 0o600 })
})
