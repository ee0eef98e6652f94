import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as fs from "node:fs"
import { call, fixture, run } from "./kit.ts"

const worker = fixture("worker.ts")
const somewhere = "postgres://user:sesame@127.0.0.1:1/app"

describe("the program effect-ray", () => {
  it.live("prints its version, help with examples, and completions", () =>
    Effect.gen(function*() {
      const { version } = JSON.parse(fs.readFileSync(new URL("../package.json", import.meta.url), "utf8"))
      assert.include((yield* run(["--version"])).stdout, version)
      const help = yield* run(["worker", "--help"])
      assert.strictEqual(help.code, 0)
      assert.match(help.stdout, /EXAMPLES\n[^]*effect-ray worker src\/worker\.ts --queue images/)
      const completions = yield* run(["--completions", "bash"])
      assert.strictEqual(completions.code, 0)
      assert.include(completions.stdout, "--dry-run")
    }))

  it.live("reports all wrong settings at once, no secret among them, and ends with 2", () =>
    Effect.gen(function*() {
      const { code, stderr } = yield* run(["worker", worker, "--local", "--runner", "ray", "--concurrency", "0"], {
        env: {
          EFFECT_RAY_LEASE: "long",
          RAY_AUTH_TOKEN: "sesame and",
          DATABASE_URL: "mysql://user:sesame@localhost/app",
          RAY_ADDRESS: "http://127.0.0.1:8265"
        }
      })
      assert.strictEqual(code, 2)
      assert.strictEqual(stderr.trim().split("\n").length, 5, stderr)
      assert.match(
        stderr,
        /^--concurrency \(EFFECT_RAY_CONCURRENCY\) "0" is not a whole number .*Set EFFECT_RAY_CONCURRENCY=/m
      )
      assert.match(stderr, /^EFFECT_RAY_LEASE "long" is not a duration/m)
      assert.match(stderr, /^RAY_AUTH_TOKEN \(its value is hidden\)/m)
      assert.match(stderr, /^DATABASE_URL \(its value is hidden\) does not begin with postgres:/m)
      assert.match(stderr, /^--local and --runner contradict each other/m)
      assert.notInclude(stderr, "sesame")
    }))

  it.live("says that Postgres does not answer, without its password, and ends with 1", () =>
    Effect.gen(function*() {
      const { code, stderr } = yield* run(["worker", worker, "--sync", "--start-timeout", "0s"], {
        env: { DATABASE_URL: somewhere }
      })
      assert.strictEqual(code, 1)
      assert.match(stderr, /Postgres at 127\.0\.0\.1:1\/app cannot be used: .*ECONNREFUSED.*Check DATABASE_URL/)
      assert.notInclude(stderr, "sesame")
    }))

  it.live("refuses a module that Node cannot import, with the reason", () =>
    Effect.gen(function*() {
      const { code, stderr } = yield* run(["worker", fixture("modules/enums.ts"), "--sync"], {
        env: { DATABASE_URL: somewhere }
      })
      assert.strictEqual(code, 1)
      assert.include(stderr, "leave out enums")
    }))
})

describe("the command effect-ray", () => {
  it.live("has help with examples for every command", () =>
    Effect.gen(function*() {
      for (const command of [[], ["worker"], ["dev"], ["migrate"]]) {
        const { code, stdout } = yield* call([...command, "--help"])
        assert.strictEqual(code, 0)
        assert.match(stdout, /EXAMPLES\n/)
        assert.include(stdout, `effect-ray ${command[0] ?? "dev src/worker.ts"}`)
      }
    }))

  it.live("tells the variable and the default of flags", () =>
    Effect.gen(function*() {
      const { stdout } = yield* call(["worker", "--help"])
      assert.match(stdout, /--concurrency COUNT .*\[EFFECT_RAY_CONCURRENCY; default: 100\]/)
      assert.match(stdout, /--drain DURATION .*default: 30 seconds\]/)
      assert.match(stdout, /--queue NAME .*all queues/)
      assert.match((yield* call(["dev", "--help"])).stdout, /--drain DURATION .*default: 5 seconds\]/)
    }))

  it.live("has completions for the shells", () =>
    Effect.gen(function*() {
      for (const shell of ["bash", "zsh", "fish"]) {
        const { code, stdout } = yield* call(["--completions", shell])
        assert.strictEqual(code, 0)
        assert.include(stdout, "in-process")
      }
    }))

  it.live("says in a line or two how it was called wrongly, and ends with 2", () =>
    Effect.gen(function*() {
      for (const args of [["work"], ["worker"], ["worker", "x.ts", "--colour"], ["migrate", "now"]]) {
        const { code, stderr, stdout } = yield* call(args)
        assert.strictEqual(code, 2)
        assert.match(stderr, /^ERROR\n  \S.*(\n.*){0,3}\nSee: effect-ray.* --help$/)
        assert.strictEqual(stdout, "")
      }
    }))

  it.live("says what is missing and what else would do", () =>
    Effect.gen(function*() {
      const { code, stderr } = yield* call(["worker", worker])
      assert.strictEqual(code, 2)
      assert.match(stderr, /^DATABASE_URL is not set .*effect-ray dev/m)
      assert.match(stderr, /^RAY_ADDRESS is not set .*--local, --in-process or --sync/m)
      assert.match((yield* call(["migrate"])).stderr, /^DATABASE_URL is not set/)
    }))

  it.live("reads the token's file before anything starts", () =>
    Effect.gen(function*() {
      const { code, stderr } = yield* call(["worker", worker, "--ray-auth-token-path", "/nowhere/token"], {
        DATABASE_URL: somewhere,
        RAY_ADDRESS: "http://127.0.0.1:1",
        RAY_AUTH_TOKEN: "good"
      })
      assert.strictEqual(code, 2)
      assert.match(stderr, /^--ray-auth-token-path \(RAY_AUTH_TOKEN_PATH\) "\/nowhere\/token" cannot be read/m)
    }))

  it.live("refuses an open cluster on the network, unless it is allowed", () =>
    Effect.gen(function*() {
      const args = ["worker", worker, "--ray-address", "http://10.255.255.1:8265", "--allow-open-cluster"]
      const help = yield* call(["worker", "--help"])
      assert.match(help.stdout, /--allow-open-cluster .*\[EFFECT_RAY_ALLOW_OPEN_CLUSTER; default: false\]/)
      const allowed = yield* call([...args, "--start-timeout", "0s"], { DATABASE_URL: somewhere })
      assert.include(allowed.stderr, "ECONNREFUSED")
      const wrong = yield* call(args.slice(0, -1), {
        DATABASE_URL: somewhere,
        EFFECT_RAY_ALLOW_OPEN_CLUSTER: "perhaps"
      })
      assert.strictEqual(wrong.code, 2)
      assert.match(
        wrong.stderr,
        /^EFFECT_RAY_ALLOW_OPEN_CLUSTER "perhaps" is not one of true, false.*--allow-open-cluster\.$/m
      )
    }))

  it.live("looks at no setting that a command or its runner does not need", () =>
    Effect.gen(function*() {
      const env = { DATABASE_URL: somewhere, RAY_ADDRESS: "auto", EFFECT_RAY_START_TIMEOUT: "0s" }
      for (const args of [["migrate"], ["worker", worker, "--in-process"], ["worker", worker, "--sync"]]) {
        const { code, stderr } = yield* call(args, { ...env, EFFECT_RAY_GATEWAY_PORT: "none" })
        assert.strictEqual(code, 1)
        assert.include(stderr, "ECONNREFUSED")
      }
      const onRay = yield* call(["worker", worker], env)
      assert.strictEqual(onRay.code, 2)
      assert.match(onRay.stderr, /^RAY_ADDRESS "auto" cannot be used/)
    }))

  it.live("refuses a queue that the worker does not have, and a module that is none", () =>
    Effect.gen(function*() {
      const env = { DATABASE_URL: somewhere }
      const queue = yield* call(["worker", worker, "--sync", "--queue", "hold"], env)
      assert.strictEqual(queue.code, 2)
      assert.match(queue.stderr, /hold.*is not a queue of any of the worker's tasks.*default, held, crowd, python/)
      const module = yield* call(["worker", fixture("modules/named.ts"), "--sync"], env)
      assert.strictEqual(module.code, 2)
      assert.include(module.stderr, "export default Worker.make(")
    }))
})
