/** Where Ray's own tools look for a cluster's token. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as fs from "node:fs/promises"
import * as os from "node:os"
import * as path from "node:path"

const read = (file: string): Effect.Effect<Option.Option<Redacted.Redacted<string>>> =>
  Effect.promise(() =>
    fs.readFile(file, "utf8").then(
      (text) => text.trim() === "" ? Option.none() : Option.some(Redacted.make(text.trim())),
      () => Option.none()
    )
  )

/** `RAY_AUTH_TOKEN`, then the file at `RAY_AUTH_TOKEN_PATH`, then `~/.ray/auth_token`. */
export const findToken: Effect.Effect<Option.Option<Redacted.Redacted<string>>> = Effect.suspend(() => {
  const { RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH } = process.env
  if (RAY_AUTH_TOKEN !== undefined && RAY_AUTH_TOKEN !== "") return Effect.succeedSome(Redacted.make(RAY_AUTH_TOKEN))
  return read(RAY_AUTH_TOKEN_PATH ?? path.join(os.homedir(), ".ray", "auth_token"))
})
