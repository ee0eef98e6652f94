/** Converts a setting's text to its value, or to what is wrong with the text and how to correct it. */
import * as RayAddress from "@effect-ray/ray/RayAddress"
import { RayError } from "@effect-ray/ray/RayError"
import * as ByteSize from "effect/ByteSize"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"

/** Fails with the end of a sentence that begins with the text. */
export type Parse<A> = (text: string) => Result.Result<A, string>

export const wholeNumber = (options: { readonly min: number; readonly max: number }): Parse<number> => (text) => {
  const n = /^\d{1,15}$/.test(text.trim()) ? Number(text) : Number.NaN
  return n >= options.min && n <= options.max
    ? Result.succeed(n)
    : Result.fail(`is not a whole number from ${options.min} to ${options.max}`)
}

/** Units as people write them, and as `Duration.format` does. */
const units: Readonly<Record<string, Duration.Unit>> = Object.fromEntries(
  ([
    ["nanos", "ns nano nanos"],
    ["micros", "us micro micros"],
    ["millis", "ms milli millis millisecond milliseconds"],
    ["seconds", "s sec secs second seconds"],
    ["minutes", "m min mins minute minutes"],
    ["hours", "h hr hrs hour hours"],
    ["days", "d day days"],
    ["weeks", "w week weeks"]
  ] as const).flatMap(([unit, names]) => names.split(" ").map((name) => [name, unit] as const))
)

/** The sum of amounts with units: `5s`, `1.5 hours`, `1m 30s`. */
const amounts = (text: string): Option.Option<Duration.Duration> => {
  // The form in which Effect prints a duration of zero.
  if (text === "0") return Option.some(Duration.zero)
  if (!/^(\d+(\.\d+)?\s*[a-z]+\s*)+$/i.test(text)) return Option.none()
  let sum = Duration.zero
  for (const [, amount, name] of text.matchAll(/([\d.]+)\s*([a-z]+)/gi)) {
    const unit = units[name!.toLowerCase()]
    if (unit === undefined) return Option.none()
    sum = Duration.sum(sum, Duration.fromInputUnsafe(`${Number(amount)} ${unit}`))
  }
  return Option.some(sum)
}

export const duration = (
  options: { readonly min: Duration.Input; readonly max: Duration.Input }
): Parse<Duration.Duration> => {
  const min = Duration.fromInputUnsafe(options.min)
  const max = Duration.fromInputUnsafe(options.max)
  const range = `from ${Duration.format(min)} to ${Duration.format(max)}`
  return (text) => {
    const parsed = amounts(text.trim())
    if (Option.isNone(parsed)) {
      return Result.fail(
        "is not a duration: a number and a unit (ms, s, m, h, d, or millis, seconds, minutes, hours, days), "
          + "or several as in 1m 30s"
      )
    }
    return Duration.isLessThan(parsed.value, min) || Duration.isGreaterThan(parsed.value, max)
      ? Result.fail(`is not a duration ${range}`)
      : Result.succeed(parsed.value)
  }
}

/** A bare number counts bytes. Units as in `512 KiB` and `2 MB`. */
export const bytes = (
  options: { readonly min: number; readonly max: number; readonly because: string }
): Parse<number> =>
(text) => {
  const size = /^\d+$/.test(text.trim()) ? `${text.trim()} B` : text.trim()
  const n = Option.match(ByteSize.fromString(size), { onNone: () => Number.NaN, onSome: Number })
  return n >= options.min && n <= options.max
    ? Result.succeed(n)
    : Result.fail(`is not a size from ${options.min} to ${options.max} bytes (${options.because})`)
}

export const oneOf =
  <const Choices extends ReadonlyArray<string>>(choices: Choices): Parse<Choices[number]> => (text) => {
    const found = choices.find((choice) => choice === text.trim())
    return found === undefined ? Result.fail(`is not one of ${choices.join(", ")}`) : Result.succeed(found)
  }

export const boolean: Parse<boolean> = (text) =>
  Result.map(oneOf(["true", "false"])(text), (choice) => choice === "true")

/** An identifier that needs no quotes, so that people can type it in psql. */
export const identifier: Parse<string> = (text) =>
  /^[a-z_][a-z0-9_]{0,39}$/.test(text) && !text.startsWith("pg_")
    ? Result.succeed(text)
    : Result.fail(
      "is not a valid schema name: lower-case letters, digits and _, at most 40, not beginning with a digit or pg_"
    )

/** A name that can be part of a Ray Job's id. */
export const deployment: Parse<string> = (text) =>
  /^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$/.test(text)
    ? Result.succeed(text)
    : Result.fail(
      "is not a valid deployment name: letters, digits, _ and -, at most 63, beginning with a letter or digit"
    )

/** The error repeats nothing of the text, which may contain a password. */
export const databaseUrl: Parse<Redacted.Redacted<string>> = (text) => {
  const url = URL.parse(text.trim())
  if (url === null) return Result.fail("is not a URL")
  if (url.protocol !== "postgres:" && url.protocol !== "postgresql:") {
    return Result.fail("does not begin with postgres://")
  }
  if (url.hostname === "") return Result.fail("names no host")
  if (url.pathname.length < 2) return Result.fail("names no database")
  return Result.succeed(Redacted.make(text.trim()))
}

/** Every user of the machine can see a flag's text, so only the environment may contain a password. */
export const databaseUrlWithoutPassword = (variable: string): Parse<Redacted.Redacted<string>> => (text) =>
  Result.flatMap(databaseUrl(text), (redacted) => {
    const { password, searchParams } = new URL(Redacted.value(redacted))
    return password === "" && !searchParams.has("password")
      ? Result.succeed(redacted)
      : Result.fail(
        "holds a password, which every user of the machine can read in the list of processes: "
          + `set a URL with a password in the environment variable ${variable}`
      )
  })

/** The URL of a Ray dashboard. */
export const rayAddress: Parse<string> = (text) =>
  Exit.match(Effect.runSyncExit(RayAddress.parse(text.trim())), {
    onSuccess: (url) => Result.succeed(url.origin),
    onFailure: (cause) => {
      const error = Cause.squash(cause)
      return Result.fail(
        error instanceof RayError && error.reason._tag === "InvalidAddress"
          ? `cannot be used: ${error.reason.detail}`
          : "is not the URL of a Ray dashboard"
      )
    }
  })

/** A token that fits into an HTTP header. */
export const token: Parse<Redacted.Redacted<string>> = (text) =>
  /^[\x21-\x7e]+$/.test(text.trim())
    ? Result.succeed(Redacted.make(text.trim(), { label: "RAY_AUTH_TOKEN" }))
    : Result.fail("contains spaces or characters that a token cannot have")

export const ip: Parse<string> = (text) =>
  /^(\d{1,3}(\.\d{1,3}){3}|[0-9a-fA-F:]*:[0-9a-fA-F:.]*)$/.test(text)
    ? Result.succeed(text)
    : Result.fail("is not an IP address")

export const hostAndPort: Parse<string> = (text) => {
  const port = Number(/^(?:[A-Za-z0-9.-]+|\[[0-9a-fA-F:.]+\]):(\d{1,5})$/.exec(text)?.[1])
  return port >= 1 && port <= 65_535 ? Result.succeed(text) : Result.fail("is not a host and a port")
}

export const text: Parse<string> = (text) => Result.succeed(text)
