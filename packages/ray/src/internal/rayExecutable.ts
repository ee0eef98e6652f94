/** Finds the `ray` command of this machine. */
import * as Effect from "effect/Effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { LocalRayFailed, RayError } from "../RayError.ts"

const executable = (file: string): boolean => {
  try {
    fs.accessSync(file, fs.constants.X_OK)
    return true
  } catch {
    return false
  }
}

const upwards = function*(from: string): Iterable<string> {
  for (let folder = from;; folder = path.dirname(folder)) {
    yield folder
    if (folder === path.dirname(folder)) return
  }
}

const missing = (detail: string) =>
  new RayError({
    reason: new LocalRayFailed({
      detail,
      fix:
        "Install it (python3 -m venv .venv && .venv/bin/pip install 'ray[default]>=2.54'), or name its Python by EFFECT_RAY_PYTHON."
    })
  })

/** The neighbour of `EFFECT_RAY_PYTHON`, `.venv/bin/ray` in this folder or one above it, then the PATH. */
export const findRay: Effect.Effect<string, RayError> = Effect.suspend(() => {
  const python = process.env["EFFECT_RAY_PYTHON"]
  if (python !== undefined && python !== "") {
    const ray = path.join(path.dirname(python), "ray")
    return executable(ray)
      ? Effect.succeed(ray)
      : Effect.fail(missing(`EFFECT_RAY_PYTHON is ${python}, and there is no ray beside it`))
  }
  const places = [
    ...Array.from(upwards(process.cwd()), (folder) => path.join(folder, ".venv", "bin", "ray")),
    ...(process.env["PATH"] ?? "").split(path.delimiter).filter((folder) => folder !== "").map((folder) =>
      path.join(folder, "ray")
    )
  ]
  const found = places.find(executable)
  return found === undefined ? Effect.fail(missing("there is no ray command")) : Effect.succeed(found)
})
