/**
 * The settings of effect-ray: one table, read from flags, from the environment (or any other `ConfigProvider`) and
 * from defaults, in this order.
 *
 * They are validated at start. Everything that is wrong is reported at once, each with the setting's name, its value
 * (hidden when it is a secret) and the fix. An empty text counts as not set.
 *
 * An application that enqueues provides `layerBroker`, so that the settings that concern it hold for it as they do for
 * workers.
 */
import type { Broker } from "@effect-ray/core/Broker"
import * as Limits from "@effect-ray/core/Limits"
import * as PgBroker from "@effect-ray/postgres/PgBroker"
import type * as PgClient from "@effect/sql-pg/PgClient"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as parsers from "./internal/parsers.ts"
import { describe, type Problem, SettingsError } from "./SettingsError.ts"

/**
 * Where attempts run: on the Ray cluster at `RAY_ADDRESS`, on a Ray of this machine, as fibers of the worker, or as
 * fibers one at a time.
 *
 * @category models
 */
export type Runner = "ray" | "local" | "in-process" | "sync"

/**
 * One setting.
 *
 * @category models
 */
export interface Setting<out A> {
  /** The environment variable, which is also the setting's name. */
  readonly env: string
  /** The flag without its dashes; none for what must not stand in a list of processes. */
  readonly flag: string | undefined
  /** What the flag's value is, for help; empty for a flag that is a switch and takes none. */
  readonly metavar: string
  /** One sentence. */
  readonly meaning: string
  /** The default as a user would write it; none when there is no value unless one is set. */
  readonly default: string | undefined
  /** A text that is valid, for messages. */
  readonly example: string
  /** Whether its text is kept out of messages and logs. */
  readonly secret: boolean
  /** From text to value, or to what is wrong with the text. */
  readonly parse: (text: string) => Result.Result<A, string>
  /** The same for the flag's text, which every user of the machine can read in the list of processes. */
  readonly parseFlag: (text: string) => Result.Result<A, string>
  /** The setting for Effect's `Config`, from the environment and the default. */
  readonly config: Config.Config<A>
}

const makeSetting = <A>(options: {
  readonly env: string
  readonly flag?: string
  readonly metavar: string
  readonly meaning: string
  readonly default?: string
  readonly example: string
  readonly secret?: boolean
  readonly parse: parsers.Parse<A>
  readonly parseFlag?: parsers.Parse<A>
  readonly absent?: A
}): Setting<A> => {
  const setting = {
    env: options.env,
    flag: options.flag,
    metavar: options.metavar,
    meaning: options.meaning,
    default: options.default,
    example: options.example,
    secret: options.secret ?? false,
    parse: options.parse,
    parseFlag: options.parseFlag ?? options.parse
  }
  const config = Config.option(Config.String(options.env)).pipe(
    Config.mapEffect((text) => {
      const resolved = resolve(setting, "environment", text)
      return Result.isSuccess(resolved)
        ? Effect.succeed(resolved.success as A)
        : Effect.fail(new Config.ConfigError(new ConfigProvider.SourceError({ message: describe(resolved.failure) })))
    })
  )
  return { ...setting, config }
}

/** A setting without a default: its value is an `Option`. */
const makeOptional = <A>(
  options: Omit<Parameters<typeof makeSetting<A>>[0], "default">
): Setting<Option.Option<A>> =>
  makeSetting(
    {
      ...options,
      parse: (text) => Result.map(options.parse(text), Option.some),
      parseFlag: (text) => Result.map((options.parseFlag ?? options.parse)(text), Option.some)
    } as Parameters<typeof makeSetting<Option.Option<A>>>[0]
  )

/** The size of a payload or a result. */
const carried = {
  min: 1024,
  max: Limits.maxCarriedBytes,
  because: "both lie in one row, and Postgres' client takes 16 MiB in one message; store more elsewhere"
}

/**
 * Every setting.
 *
 * @category settings
 */
export const table = {
  databaseUrl: makeOptional({
    env: "DATABASE_URL",
    flag: "database-url",
    metavar: "URL",
    meaning: "The Postgres (15 or newer) that holds the executions; the flag refuses a URL with a password",
    example: "postgres://user@localhost:5432/app",
    secret: true,
    parse: parsers.databaseUrl,
    parseFlag: parsers.databaseUrlWithoutPassword("DATABASE_URL")
  }),
  listenUrl: makeOptional({
    env: "EFFECT_RAY_LISTEN_URL",
    flag: "listen-url",
    metavar: "URL",
    meaning:
      "The direct address of the same Postgres, if DATABASE_URL leads to a pooler such as pgbouncer, which cannot LISTEN",
    example: "postgres://user@localhost:5432/app",
    secret: true,
    parse: parsers.databaseUrl,
    parseFlag: parsers.databaseUrlWithoutPassword("EFFECT_RAY_LISTEN_URL")
  }),
  prepare: makeSetting<boolean>({
    env: "EFFECT_RAY_PREPARE",
    flag: "prepare",
    metavar: "",
    meaning: "Use prepared statements; turn it off for a pooler that does not support them",
    default: "true",
    example: "false",
    parse: parsers.boolean
  }),
  schema: makeSetting({
    env: "EFFECT_RAY_SCHEMA",
    flag: "schema",
    metavar: "NAME",
    meaning: "The database schema of effect-ray's tables",
    default: "effect_ray",
    example: "effect_ray",
    parse: parsers.identifier
  }),
  deployment: makeOptional({
    env: "EFFECT_RAY_DEPLOYMENT",
    flag: "deployment",
    metavar: "NAME",
    meaning: "The name of the deployment, whose workers share one gateway on a cluster; the schema's name when not set",
    example: "production",
    parse: parsers.deployment
  }),
  runner: makeSetting<Runner>({
    env: "EFFECT_RAY_RUNNER",
    flag: "runner",
    metavar: "ray|local|in-process|sync",
    meaning:
      "Where attempts run: on the cluster at RAY_ADDRESS, on a Ray on this machine, in this process, or there one at a time",
    default: "ray",
    example: "in-process",
    parse: parsers.oneOf(["ray", "local", "in-process", "sync"])
  }),
  rayAddress: makeOptional({
    env: "RAY_ADDRESS",
    flag: "ray-address",
    metavar: "URL",
    meaning: "The URL of the Ray cluster's dashboard",
    example: "http://127.0.0.1:8265",
    parse: parsers.rayAddress
  }),
  rayAuthToken: makeOptional({
    env: "RAY_AUTH_TOKEN",
    metavar: "TOKEN",
    meaning:
      "The Ray cluster's token; when not set, it is read from the file RAY_AUTH_TOKEN_PATH, then from ~/.ray/auth_token",
    example: "$(cat token)",
    secret: true,
    parse: parsers.token
  }),
  rayAuthTokenPath: makeOptional({
    env: "RAY_AUTH_TOKEN_PATH",
    flag: "ray-auth-token-path",
    metavar: "FILE",
    meaning: "The file with the Ray cluster's token",
    example: "/run/secrets/ray-token",
    parse: parsers.text
  }),
  allowOpenCluster: makeSetting<boolean>({
    env: "EFFECT_RAY_ALLOW_OPEN_CLUSTER",
    flag: "allow-open-cluster",
    metavar: "",
    meaning:
      "Accept a cluster that is not on loopback and has no token, although anyone who reaches it can run code on it",
    default: "false",
    example: "true",
    parse: parsers.boolean
  }),
  gatewayPort: makeOptional({
    env: "EFFECT_RAY_GATEWAY_PORT",
    flag: "gateway-port",
    metavar: "PORT",
    meaning: "The port on which the gateway listens inside the cluster; any free port when not set",
    example: "7000",
    parse: parsers.wholeNumber({ min: 1, max: 65_535 })
  }),
  gatewayBind: makeOptional({
    env: "EFFECT_RAY_GATEWAY_BIND",
    flag: "gateway-bind",
    metavar: "ADDRESS",
    meaning: "The IP address on which the gateway listens; its Ray node's address when not set",
    example: "10.0.0.7",
    parse: parsers.ip
  }),
  gatewayAdvertise: makeOptional({
    env: "EFFECT_RAY_GATEWAY_ADVERTISE",
    flag: "gateway-advertise",
    metavar: "HOST:PORT",
    meaning: "The address at which workers reach the gateway, if it differs from the one it listens on",
    example: "ray-gateway.internal:7000",
    parse: parsers.hostAndPort
  }),
  concurrency: makeSetting({
    env: "EFFECT_RAY_CONCURRENCY",
    flag: "concurrency",
    metavar: "COUNT",
    meaning: "The most attempts that a worker runs at once",
    default: "100",
    example: "100",
    parse: parsers.wholeNumber({ min: 1, max: 100_000 })
  }),
  maxAttempts: makeSetting({
    env: "EFFECT_RAY_MAX_ATTEMPTS",
    flag: "max-attempts",
    metavar: "COUNT",
    meaning: "The attempts of tasks that do not set their own, recorded when an execution is enqueued",
    default: "3",
    example: "3",
    parse: parsers.wholeNumber({ min: 1, max: Limits.maxAttemptsOfSchedule })
  }),
  retryBackoff: makeSetting({
    env: "EFFECT_RAY_RETRY_BACKOFF",
    flag: "retry-backoff",
    metavar: "DURATION",
    meaning:
      "The delay before the second attempt of tasks without a schedule; it doubles with each attempt, with jitter",
    default: "1 second",
    example: "1 second",
    parse: parsers.duration({ min: 0, max: Limits.maxDefaultBackoff })
  }),
  lease: makeSetting({
    env: "EFFECT_RAY_LEASE",
    flag: "lease",
    metavar: "DURATION",
    meaning: "How long a silent worker keeps its executions before other workers take them over",
    default: "30 seconds",
    example: "30 seconds",
    parse: parsers.duration({ min: "1 second", max: "1 hour" })
  }),
  drain: makeSetting({
    env: "EFFECT_RAY_DRAIN",
    flag: "drain",
    metavar: "DURATION",
    meaning:
      "How long running attempts may continue after SIGTERM or SIGINT; the rest go back to their queue, uncounted",
    default: "30 seconds",
    example: "30 seconds",
    parse: parsers.duration({ min: 0, max: "1 day" })
  }),
  startTimeout: makeSetting({
    env: "EFFECT_RAY_START_TIMEOUT",
    flag: "start-timeout",
    metavar: "DURATION",
    meaning: "How long a starting worker waits for a Postgres or a Ray that it cannot reach, before it exits with 1",
    default: "60 seconds",
    example: "60 seconds",
    parse: parsers.duration({ min: 0, max: "1 day" })
  }),
  unschedulableAfter: makeSetting({
    env: "EFFECT_RAY_UNSCHEDULABLE_AFTER",
    flag: "unschedulable-after",
    metavar: "DURATION",
    meaning: "How long an execution waits while its hosts fail to start, or no node can hold one, before it fails",
    default: "10 minutes",
    example: "10 minutes",
    parse: parsers.duration({ min: 0, max: "30 days" })
  }),
  maxResultBytes: makeSetting({
    env: "EFFECT_RAY_MAX_RESULT_BYTES",
    flag: "max-result-bytes",
    metavar: "SIZE",
    meaning: "The largest encoded result that is stored, at most 7 MiB; a larger result fails its execution",
    default: "2 MiB",
    example: "2 MiB",
    parse: parsers.bytes(carried)
  }),
  maxPayloadBytes: makeSetting({
    env: "EFFECT_RAY_MAX_PAYLOAD_BYTES",
    flag: "max-payload-bytes",
    metavar: "SIZE",
    meaning: "The largest encoded payload that can be enqueued, at most 7 MiB",
    default: "2 MiB",
    example: "2 MiB",
    parse: parsers.bytes(carried)
  }),
  logFormat: makeSetting<"auto" | "json" | "pretty">({
    env: "EFFECT_RAY_LOG_FORMAT",
    flag: "log-format",
    metavar: "auto|json|pretty",
    meaning: "Write log lines as JSON, or formatted for people; auto formats them if the output is a terminal",
    default: "auto",
    example: "json",
    parse: parsers.oneOf(["auto", "json", "pretty"])
  })
}

/** The name of a setting in `table`. @category models */
export type Key = keyof typeof table

/**
 * The values of all settings.
 *
 * @category models
 */
export type Settings = { readonly [K in Key]: (typeof table)[K] extends Setting<infer A> ? A : never }

/** The texts of flags that were given. @category models */
export type Flags = { readonly [K in Key]?: string | undefined }

/** The settings' names, in the table's order. @category settings */
export const keys = Object.keys(table) as ReadonlyArray<Key>

type Source = "flag" | "environment"

type Described = Omit<Setting<unknown>, "config">

/**
 * How a setting's flag is written; none for what must not stand in a list of processes. A switch that is on unless told
 * otherwise is there to be turned off.
 *
 * @category formatting
 */
export const usage = (setting: Omit<Setting<unknown>, "config">): string | undefined => {
  if (setting.flag === undefined) return undefined
  if (setting.metavar !== "") return `--${setting.flag} ${setting.metavar}`
  return setting.default === "true" ? `--no-${setting.flag}` : `--${setting.flag}`
}

const fixOf = (setting: Described): string => {
  const flag = usage({ ...setting, metavar: setting.metavar === "" ? "" : quote(setting.example) })
  return flag === undefined
    ? `Set ${setting.env}=${setting.example}.`
    : `Set ${setting.env}=${quote(setting.example)}, or pass ${flag}.`
}

const quote = (text: string): string => /^[\w.,:/@-]+$/.test(text) ? text : `'${text}'`

/** Texts that came from users are shown, but a password that hides in a URL is not. */
const show = (text: string): string => text.slice(0, 200).replace(/\/\/[^/@]*@/, "//…@")

/** The value of a text, or of the default when there is none. */
const resolve = (
  setting: Described,
  source: Source,
  text: Option.Option<string>
): Result.Result<unknown, Problem> => {
  const given = Option.getOrElse(text, () => setting.default)
  if (given === undefined) return Result.succeed(Option.none())
  const parse = source === "flag" ? setting.parseFlag : setting.parse
  return Result.mapError(parse(given), (problem) => ({
    setting: setting.env,
    source: Option.some(source === "flag" ? `--${setting.flag}` : setting.env),
    value: setting.secret ? Option.none() : Option.some(show(given)),
    problem,
    fix: fixOf(setting)
  }))
}

/**
 * What to say when a setting is needed and not there.
 *
 * @category errors
 */
export const missing = (key: Key, orElse: string): Problem => ({
  setting: table[key].env,
  source: Option.none(),
  value: Option.none(),
  problem: `is not set (${lowerFirst(table[key].meaning)})`,
  fix: `${fixOf(table[key])}${orElse === "" ? "" : ` ${orElse}`}`
})

const lowerFirst = (text: string): string => text.charAt(0).toLowerCase() + text.slice(1)

const textOf = (setting: Described): Effect.Effect<Option.Option<string>, Problem> =>
  Effect.mapError(Config.option(Config.String(setting.env)), (error) => ({
    setting: setting.env,
    source: Option.some(setting.env),
    value: Option.none(),
    problem: `cannot be read: ${error.message}`,
    fix: fixOf(setting)
  }))

/**
 * Reads and validates settings. `validate` adds what is wrong with their combination, or missing; it sees the values
 * that are right.
 *
 * @category reading
 */
export const load = Effect.fn("Settings.load")(function*<K extends Key, R = never>(options: {
  readonly keys: ReadonlyArray<K>
  readonly flags?: Flags
  /** Other defaults than the table's. */
  readonly defaults?: Flags
  /** What the environment says of these is of no concern: they have their flag's value or their default. */
  readonly unread?: ReadonlyArray<Key>
  readonly validate?: (settings: Partial<Settings>) => Effect.Effect<ReadonlyArray<Problem>, never, R>
}): Effect.fn.Return<Pick<Settings, K>, SettingsError, R> {
  const values: Record<string, unknown> = {}
  const problems: Array<Problem> = []
  for (const key of options.keys) {
    const setting: Described = { ...table[key], default: options.defaults?.[key] ?? table[key].default }
    const flag = options.flags?.[key]
    const resolved = flag !== undefined
      ? resolve(setting, "flag", Option.some(flag))
      : options.unread?.includes(key) === true
      ? resolve(setting, "environment", Option.none())
      : yield* Effect.map(
        Effect.result(textOf(setting)),
        Result.flatMap((text) => resolve(setting, "environment", text))
      )
    if (Result.isSuccess(resolved)) values[key] = resolved.success
    else problems.push(resolved.failure)
  }
  if (options.validate !== undefined) problems.push(...yield* options.validate(values as Partial<Settings>))
  const [first, ...rest] = problems
  if (first !== undefined) return yield* new SettingsError({ problems: [first, ...rest] })
  return values as Pick<Settings, K>
})

/**
 * The deployment's name, which is the schema's unless it has one of its own.
 *
 * @category reading
 */
export const deploymentOf = (settings: Pick<Settings, "schema" | "deployment">): string =>
  Option.getOrElse(settings.deployment, () => settings.schema)

const limitKeys = ["maxAttempts", "retryBackoff", "maxPayloadBytes", "maxResultBytes"] as const

/**
 * The limits that `core` reads, set from settings already read.
 *
 * @category layers
 */
export const limits = (settings: Pick<Settings, (typeof limitKeys)[number]>): Layer.Layer<never> =>
  Layer.mergeAll(
    Layer.succeed(Limits.MaxAttempts, settings.maxAttempts),
    Layer.succeed(Limits.RetryBackoff, settings.retryBackoff),
    Layer.succeed(Limits.MaxPayloadBytes, settings.maxPayloadBytes),
    Layer.succeed(Limits.MaxResultBytes, settings.maxResultBytes)
  )

/**
 * The limits that `core` reads, from the environment.
 *
 * @category layers
 */
export const layerLimits: Layer.Layer<never, SettingsError> = Layer.unwrap(
  Effect.map(load({ keys: limitKeys }), limits)
)

/**
 * Where the broker's tables are and how it hears of changes, for `PgBroker.layer`.
 *
 * @category reading
 */
export const brokerOptions = (settings: Pick<Settings, "schema" | "listenUrl">): PgBroker.Options => ({
  schema: settings.schema,
  ...Option.match(settings.listenUrl, {
    onNone: () => ({}),
    onSome: (url: Redacted.Redacted<string>) => ({ listen: { url } })
  })
})

/**
 * For applications that enqueue: a broker over the app's own client with the settings of the environment
 * (`EFFECT_RAY_SCHEMA`, `EFFECT_RAY_LISTEN_URL` and the limits), as workers have them.
 *
 * @category layers
 */
export const layerBroker: Layer.Layer<Broker, SettingsError, PgClient.PgClient> = Layer.merge(
  Layer.unwrap(
    Effect.map(load({ keys: ["schema", "listenUrl"] }), (settings) => PgBroker.layer(brokerOptions(settings)))
  ),
  layerLimits
)
