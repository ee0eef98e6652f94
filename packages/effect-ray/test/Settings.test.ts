import { assert, describe, it } from "@effect/vitest"
import * as Limits from "@effect-ray/core/Limits"
import * as Settings from "effect-ray/Settings"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as fs from "node:fs"
import * as unknownVariables from "../src/internal/unknownVariables.ts"

type Environment = Readonly<Record<string, string>>

const provide = (env: Environment) =>
  Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromEnv({ env: { ...env } }))

const load = (env: Environment, flags: Settings.Flags = {}) =>
  provide(env)(Settings.load({ keys: Settings.keys, flags }))

const refused = (env: Environment, flags: Settings.Flags = {}) => Effect.flip(load(env, flags))

/** Values as plain data: what is inside an Option or a Redacted, durations in milliseconds. */
const plain = (value: unknown): unknown => {
  if (Option.isOption(value)) return Option.isNone(value) ? null : plain(value.value)
  if (Redacted.isRedacted(value)) return Redacted.value(value)
  return Duration.isDuration(value) ? Duration.toMillis(value) : value
}

interface Case {
  readonly absent: unknown
  readonly valid: ReadonlyArray<readonly [text: string, value: unknown]>
  /** Each with words of the message that tell what is wrong. */
  readonly invalid: ReadonlyArray<readonly [text: string, words: string]>
}

const cases: { readonly [K in Settings.Key]: Case } = {
  databaseUrl: {
    absent: null,
    valid: [
      ["postgres://u@localhost:5432/app", "postgres://u@localhost:5432/app"],
      [" postgresql://localhost/app?sslmode=require ", "postgresql://localhost/app?sslmode=require"]
    ],
    invalid: [
      ["localhost:5432", "does not begin with postgres://"],
      ["mysql://u:sesame@localhost/app", "does not begin with postgres://"],
      ["postgres://u:sesame@localhost", "names no database"],
      ["sesame", "is not a URL"]
    ]
  },
  listenUrl: {
    absent: null,
    valid: [["postgres://u@direct:5432/app", "postgres://u@direct:5432/app"]],
    invalid: [["direct:5432", "does not begin with postgres://"], ["postgres://u:sesame@direct", "names no database"]]
  },
  prepare: {
    absent: true,
    valid: [["false", false], ["true", true]],
    invalid: [["off", "is not one of true, false"]]
  },
  schema: {
    absent: "effect_ray",
    valid: [["jobs_2", "jobs_2"]],
    invalid: [["Jobs", "is not a valid schema name"], ["pg_jobs", "pg_"], [
      "a\"; DROP TABLE x",
      "is not a valid schema name"
    ]]
  },
  deployment: {
    absent: null,
    valid: [["eu-west_1", "eu-west_1"]],
    invalid: [["eu west", "is not a valid deployment name"], ["x".repeat(64), "at most 63"]]
  },
  runner: {
    absent: "ray",
    valid: [["ray", "ray"], ["local", "local"], ["in-process", "in-process"], ["sync", "sync"]],
    invalid: [["process", "is not one of ray, local, in-process, sync"]]
  },
  rayAddress: {
    absent: null,
    valid: [["http://127.0.0.1:8265/", "http://127.0.0.1:8265"], ["https://ray.internal", "https://ray.internal"]],
    invalid: [
      ["ray://127.0.0.1:10001", "Ray Client's protocol"],
      ["127.0.0.1:6379", "it is not a URL"],
      ["auto", "it is not a URL"],
      ["http://u:sesame@127.0.0.1:8265", "it contains a password"]
    ]
  },
  rayAuthToken: { absent: null, valid: [["0123abcd", "0123abcd"]], invalid: [["sesame sesame", "contains spaces"]] },
  rayAuthTokenPath: { absent: null, valid: [["/run/secrets/ray", "/run/secrets/ray"]], invalid: [] },
  allowOpenCluster: {
    absent: false,
    valid: [["true", true], ["false", false]],
    invalid: [["yes", "is not one of true, false"]]
  },
  gatewayPort: { absent: null, valid: [["7000", 7000]], invalid: [["70000", "from 1 to 65535"], ["0", "from 1"]] },
  gatewayBind: {
    absent: null,
    valid: [["10.0.0.7", "10.0.0.7"], ["::1", "::1"]],
    invalid: [["ray.internal", "is not an IP address"]]
  },
  gatewayAdvertise: {
    absent: null,
    valid: [["ray.internal:7000", "ray.internal:7000"], ["[::1]:7000", "[::1]:7000"]],
    invalid: [["ray.internal", "is not a host and a port"], ["ray.internal:99999", "is not a host and a port"]]
  },
  concurrency: {
    absent: 100,
    valid: [["1", 1], ["100000", 100_000]],
    invalid: [["0", "from 1 to 100000"], ["100001", "from 1 to 100000"], ["1.5", "whole number"], [
      "many",
      "whole number"
    ]]
  },
  maxAttempts: { absent: 3, valid: [["1", 1]], invalid: [["0", "whole number from 1"], ["-3", "whole number from 1"]] },
  retryBackoff: {
    absent: 1000,
    valid: [["250 millis", 250], ["2 minutes", 120_000]],
    invalid: [["2", "is not a duration"], ["1 hour", "is not a duration from"], ["soon", "is not a duration"]]
  },
  lease: {
    absent: 30_000,
    valid: [["5 seconds", 5000]],
    invalid: [["10 millis", "is not a duration from 1s to 1h"], ["Infinity", "is not a duration"]]
  },
  drain: {
    absent: 30_000,
    valid: [
      ["0 seconds", 0],
      ["10 minutes", 600_000],
      ["90s", 90_000],
      ["1.5 h", 5_400_000],
      ["250ms", 250],
      ["0", 0],
      ...[
        ["1m30s", 90_000],
        ["1m 30s", 90_000],
        ["1h 2 minutes 3.5s", 3_723_500],
        ["5secs", 5000],
        ["5 mins", 300_000],
        ["2hrs", 7_200_000],
        ["1day", 86_400_000]
      ] as const
    ],
    invalid: [
      ["1m 30", "is not a duration"],
      ["1m, 30s", "is not a duration"],
      ["2 days", "is not a duration"],
      ["2d", "is not a duration"],
      ["5 x", "a number and a unit (ms, s, m"],
      [
        "-1 seconds",
        "is not a duration"
      ]
    ]
  },
  startTimeout: {
    absent: 60_000,
    valid: [["0 seconds", 0], ["5 minutes", 300_000], ["2m", 120_000]],
    invalid: [["2 days", "is not a duration"]]
  },
  unschedulableAfter: {
    absent: 600_000,
    valid: [["0 seconds", 0], ["1 hour", 3_600_000]],
    invalid: [["31 days", "is not a duration"], ["soon", "is not a duration"]]
  },
  maxResultBytes: {
    absent: 2 * 1024 * 1024,
    valid: [["4096", 4096], ["512 KiB", 524_288], ["1MB", 1_000_000]],
    invalid: [["12", "is not a size from 1024"], ["1 GiB", "is not a size"], [
      "8 MiB",
      "to 7340032 bytes (both are stored in one row"
    ], ["big", "is not a size"]]
  },
  maxPayloadBytes: {
    absent: 2 * 1024 * 1024,
    valid: [["4096", 4096]],
    invalid: [["0", "is not a size from 1024"], ["two megabytes", "is not a size"], [
      "7340033",
      "to 7340032 bytes (both are stored in one row"
    ]]
  },
  logFormat: { absent: "auto", valid: [["json", "json"]], invalid: [["xml", "is not one of auto, json, pretty"]] }
}

const docs = fs.readFileSync(new URL("../../../docs/settings.md", import.meta.url), "utf8")

describe("Settings", () => {
  it("are in the docs as they are in the table", () => {
    const rows = docs.split("\n").filter((line) => /^\| `[A-Z_]+` /.test(line)).map((line) =>
      line.replaceAll(/ +/g, " ")
    )
    assert.deepStrictEqual(
      rows,
      Settings.keys.map((key) => {
        const { default: value, env, meaning } = Settings.table[key]
        const flag = Settings.usage(Settings.table[key])
        const shown = flag === undefined ? "" : `\`${flag.replaceAll("|", "\\|")}\` `
        return `| \`${env}\` | ${shown}| ${value === undefined ? "" : `${value} `}| ${meaning} |`
      })
    )
  })

  for (const key of Settings.keys) {
    const setting: Settings.Setting<unknown> = Settings.table[key]
    const { absent, invalid, valid } = cases[key]

    it.effect(`${setting.env}: reads its default, its variable and its flag`, () =>
      Effect.gen(function*() {
        assert.deepStrictEqual(plain((yield* load({}))[key]), absent)
        assert.deepStrictEqual(plain((yield* load({ [setting.env]: "" }))[key]), absent)
        for (const [text, value] of valid) {
          assert.deepStrictEqual(plain((yield* load({ [setting.env]: text }))[key]), value)
          assert.deepStrictEqual(plain(yield* provide({ [setting.env]: text })(setting.config)), value)
          if (setting.flag === undefined) continue
          assert.deepStrictEqual(plain((yield* load({ [setting.env]: "\u0000" }, { [key]: text }))[key]), value)
        }
      }))

    if (invalid.length === 0) continue
    it.effect(`${setting.env}: refuses a wrong value with its name, the value and the fix`, () =>
      Effect.gen(function*() {
        for (const [text, words] of invalid) {
          const errors = [yield* refused({ [setting.env]: text })]
          if (setting.flag !== undefined) errors.push(yield* refused({}, { [key]: text }))
          for (const error of errors) {
            assert.strictEqual(error.problems.length, 1)
            assert.include(error.message, setting.env)
            assert.include(error.message, words)
            assert.include(error.message, `Set ${setting.env}=`)
            assert.notInclude(error.message, "sesame")
            if (setting.secret) assert.include(error.message, "its value is hidden")
            else if (!text.includes("sesame") && !text.includes("\"")) assert.include(error.message, text.slice(0, 200))
          }
          if (setting.flag !== undefined) assert.include(errors[1]!.message, `--${setting.flag}`)
          assert.strictEqual((yield* Effect.flip(provide({ [setting.env]: text })(setting.config)))._tag, "ConfigError")
        }
      }))

    it(`${setting.env}: says what it means, and its example is valid`, () => {
      assert.isAbove(setting.meaning.length, 20)
      assert.strictEqual(key === "rayAuthToken", setting.flag === undefined)
      if (setting.default !== undefined) assert.strictEqual(setting.parse(setting.default)._tag, "Success")
      if (setting.flag !== undefined) assert.strictEqual(setting.parse(setting.example)._tag, "Success")
    })
  }

  it.effect("take the database's password from the environment, and not from a flag", () =>
    Effect.gen(function*() {
      for (const url of ["postgres://u:sesame@h/d", "postgres://u@h/d?password=sesame"]) {
        for (
          const [key, flag, env] of [
            ["databaseUrl", "--database-url", "DATABASE_URL"],
            ["listenUrl", "--listen-url", "EFFECT_RAY_LISTEN_URL"]
          ] as const
        ) {
          assert.strictEqual(plain((yield* load({ [env]: url }))[key]), url)
          const { message } = yield* refused({}, { [key]: url })
          assert.include(message, `${flag} (${env}) (its value is hidden) holds a password, `)
          assert.include(message, `variable ${env}.`)
          assert.notInclude(message, "sesame")
        }
      }
    }))

  it.effect("says how a switch is turned off that is on by default", () =>
    Effect.gen(function*() {
      assert.strictEqual(Settings.usage(Settings.table.prepare), "--no-prepare")
      assert.strictEqual(Settings.usage(Settings.table.allowOpenCluster), "--allow-open-cluster")
      assert.include(
        (yield* refused({ EFFECT_RAY_PREPARE: "off" })).message,
        "Set EFFECT_RAY_PREPARE=false, or pass --no-prepare."
      )
    }))

  it("know the nearest name to one that is unknown", () => {
    assert.deepStrictEqual(
      unknownVariables.find(["EFFECT_RAY_CONCURENCY", "EFFECT_RAY_LEASE", "EFFECT_RAY_NODE", "PATH"]),
      [
        { name: "EFFECT_RAY_CONCURENCY", nearest: "EFFECT_RAY_CONCURRENCY" }
      ]
    )
  })

  it.effect("reports everything that is wrong at once", () =>
    Effect.gen(function*() {
      const error = yield* refused({ EFFECT_RAY_LEASE: "long", RAY_ADDRESS: "auto" }, { concurrency: "0" })
      assert.deepStrictEqual(error.problems.map((problem) => problem.setting).toSorted(), [
        "EFFECT_RAY_CONCURRENCY",
        "EFFECT_RAY_LEASE",
        "RAY_ADDRESS"
      ])
      assert.strictEqual(error.message.split("\n").length, 3)
    }))

  it.effect("looks at the settings that were asked for only", () =>
    Effect.gen(function*() {
      const env = { RAY_ADDRESS: "auto", EFFECT_RAY_SCHEMA: "jobs" }
      assert.deepStrictEqual(yield* provide(env)(Settings.load({ keys: ["schema"] })), { schema: "jobs" })
    }))

  it.effect("hides secrets from logs", () =>
    Effect.gen(function*() {
      const settings = yield* load({ DATABASE_URL: "postgres://u:sesame@h/d", RAY_AUTH_TOKEN: "sesame" })
      assert.notInclude(JSON.stringify(settings), "sesame")
    }))

  it.effect("sets the limits of the core for an application", () =>
    Effect.gen(function*() {
      const limits = yield* Effect.all([
        Limits.MaxAttempts,
        Limits.MaxPayloadBytes,
        Limits.MaxResultBytes,
        Limits.RetryBackoff
      ])
        .pipe(
          Effect.provide(Settings.layerLimits),
          provide({
            EFFECT_RAY_MAX_ATTEMPTS: "7",
            EFFECT_RAY_MAX_PAYLOAD_BYTES: "5000",
            EFFECT_RAY_MAX_RESULT_BYTES: "6000",
            EFFECT_RAY_RETRY_BACKOFF: "20 millis"
          })
        )
      assert.deepStrictEqual(limits.map(plain), [7, 5000, 6000, 20])
    }))
})
