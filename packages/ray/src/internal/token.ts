/** Finds a cluster's token where Ray's own tools look for it. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as fs from "node:fs/promises"
import * as os from "node:os"
import * as path from "node:path"
import { InvalidAddress, RayError } from "../RayError.ts"

type Token = Option.Option<Redacted.Redacted<string>>

const read = (file: string): Effect.Effect<Token, Error> =>
  Effect.map(
    Effect.tryPromise({ try: () => fs.readFile(file, "utf8"), catch: (error) => error as Error }),
    (text) => text.trim() === "" ? Option.none() : Option.some(Redacted.make(text.trim()))
  )

/**
 * Returns `RAY_AUTH_TOKEN`, or the content of the file at `RAY_AUTH_TOKEN_PATH`, or else of `~/.ray/auth_token`. Fails
 * with `InvalidAddress` if the file at `RAY_AUTH_TOKEN_PATH` cannot be read: without its token, a less clear error
 * would follow much later.
 */
export const findToken = (address: string): Effect.Effect<Token, RayError> =>
  Effect.suspend(() => {
    const { RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH } = process.env
    if (RAY_AUTH_TOKEN !== undefined && RAY_AUTH_TOKEN !== "") {
      return Effect.succeedSome(Redacted.make(RAY_AUTH_TOKEN))
    }
    if (RAY_AUTH_TOKEN_PATH === undefined || RAY_AUTH_TOKEN_PATH === "") {
      return Effect.catch(read(path.join(os.homedir(), ".ray", "auth_token")), () => Effect.succeedNone)
    }
    return Effect.mapError(read(RAY_AUTH_TOKEN_PATH), (error) =>
      new RayError({
        reason: new InvalidAddress({
          address,
          detail: `the token at RAY_AUTH_TOKEN_PATH cannot be read (${error.message})`,
          fix: "Name a file that this process may read and that contains the cluster's token and nothing else."
        })
      }))
  })
