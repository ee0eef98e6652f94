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

/**
 * Whether a virtual environment that was found in this folder or above may be used. In a folder that every user can
 * write to, such as the temporary one, another user may have put it there.
 */
const isTrusted = (venv: string): boolean => {
  const user = process.getuid?.()
  if (user === undefined) return true
  const { mode, uid } = fs.statSync(venv)
  // In a container that runs as root, the project may belong to its owner outside the container.
  return [user, 0, fs.statSync(process.cwd()).uid].includes(uid) && (mode & 0o002) === 0
}

const missing = (detail: string) =>
  new RayError({
    reason: new LocalRayFailed({
      detail,
      fix:
        "Install it (python3 -m venv .venv && .venv/bin/pip install 'ray[default]>=2.54'), or set EFFECT_RAY_PYTHON to its Python."
    })
  })

/**
 * Returns the `ray` beside `EFFECT_RAY_PYTHON`. Without that variable, the nearest `.venv/bin/ray` in this folder or
 * above, then the one on the PATH. Fails with `LocalRayFailed`.
 */
export const findRay: Effect.Effect<string, RayError> = Effect.suspend(() => {
  const python = process.env["EFFECT_RAY_PYTHON"]
  if (python !== undefined && python !== "") {
    const ray = path.join(path.dirname(python), "ray")
    return executable(ray)
      ? Effect.succeed(ray)
      : Effect.fail(missing(`EFFECT_RAY_PYTHON is ${python}, but there is no ray beside it`))
  }
  const environments = Array.from(upwards(process.cwd()), (folder) => path.join(folder, ".venv"))
    .filter((venv) => executable(path.join(venv, "bin", "ray")))
  const places = [
    ...environments.filter(isTrusted).map((venv) => path.join(venv, "bin")),
    ...(process.env["PATH"] ?? "").split(path.delimiter).filter((folder) => folder !== "")
  ]
  const found = places.map((folder) => path.join(folder, "ray")).find(executable)
  if (found !== undefined) return Effect.succeed(found)
  const [venv] = environments
  return Effect.fail(
    missing(venv === undefined ? "there is no ray command" : `${venv} has one, but another user may have put it there`)
  )
})
