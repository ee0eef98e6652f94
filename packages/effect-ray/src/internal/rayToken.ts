/** Finds the Ray cluster's token: the most explicit of the text and files that the user named. */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Settings from "../Settings.ts"
import type { Problem } from "../SettingsError.ts"

type Token = Option.Option<Redacted.Redacted<string>>

/**
 * A file named by the flag comes before `RAY_AUTH_TOKEN`, which comes before a file named by `RAY_AUTH_TOKEN_PATH`.
 * `None` if none is set; the client then reads Ray's own file, `~/.ray/auth_token`.
 */
export const find = Effect.fnUntraced(function*(
  settings: Partial<Settings.Settings>,
  flags: Settings.Flags
): Effect.fn.Return<Token, Problem, FileSystem.FileSystem> {
  const file = settings.rayAuthTokenPath ?? Option.none()
  const token: Token = settings.rayAuthToken ?? Option.none()
  if (Option.isNone(file) || (Option.isSome(token) && flags.rayAuthTokenPath === undefined)) return token
  const fs = yield* FileSystem.FileSystem
  const problem = (what: string): Problem => ({
    setting: Settings.table.rayAuthTokenPath.env,
    source: Option.some(flags.rayAuthTokenPath === undefined ? "RAY_AUTH_TOKEN_PATH" : "--ray-auth-token-path"),
    value: Option.some(file.value),
    problem: what,
    fix: "Name a file that this process may read and that contains the cluster's token and nothing else."
  })
  const text = yield* Effect.mapError(
    fs.readFileString(file.value),
    (error) => problem(`cannot be read (${error.reason._tag})`)
  )
  const parsed = Settings.table.rayAuthToken.parse(text)
  return Result.isSuccess(parsed) ? parsed.success : yield* Effect.fail(problem("contains no token"))
})
