/** The program as a real process, and what tests ask of it. */
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Cli from "effect-ray/Cli"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { spawn } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { fileURLToPath } from "node:url"

const bin = fileURLToPath(new URL("../bin/effect-ray.js", import.meta.url))

export const fixture = (name: string): string => fileURLToPath(new URL(`fixtures/${name}`, import.meta.url))

/** Tries until it holds. The test's own timeout is the bound. */
export const eventually = <A, E, R>(effect: Effect.Effect<A, E, R>, holds: (a: A) => boolean): Effect.Effect<A, E, R> =>
  Effect.repeat(effect, { until: holds, schedule: Schedule.spaced("50 millis") })

/** A folder that is gone when the scope closes. */
export const temporaryFolder = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "effect-ray-test-"))),
  (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true }))
)

export interface Program {
  readonly pid: number
  readonly stdout: () => string
  readonly stderr: () => string
  /** The log lines, one JSON object each. */
  readonly logs: () => ReadonlyArray<{ readonly message: unknown; readonly level: string }>
  readonly signal: (signal: NodeJS.Signals) => Effect.Effect<void>
  /** Waits for the end and answers the exit code. */
  readonly exit: Effect.Effect<number>
  /** Waits until the output holds these words; fails when the process ends without them. */
  readonly says: (words: string) => Effect.Effect<void, string>
}

export interface Options {
  readonly env?: Readonly<Record<string, string>>
  readonly cwd?: string
}

/** What the developer's own environment sets must not reach the program. */
const inherited = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => !/^(EFFECT_RAY_|RAY_|OTEL_|DATABASE_URL$|FORCE_COLOR$)/.test(name))
)

/** Starts `effect-ray`; it is gone when the scope closes. */
export const start = (args: ReadonlyArray<string>, options: Options = {}) =>
  Effect.acquireRelease(
    Effect.sync((): Program => {
      const child = spawn(process.execPath, ["--conditions=@effect-ray/source", bin, ...args], {
        cwd: options.cwd ?? fileURLToPath(new URL(".", import.meta.url)),
        env: { ...inherited, NO_COLOR: "1", ...options.env },
        stdio: ["ignore", "pipe", "pipe"]
      })
      let stdout = ""
      let stderr = ""
      let code: number | undefined
      child.stdout.setEncoding("utf8").on("data", (chunk: string) => stdout += chunk)
      child.stderr.setEncoding("utf8").on("data", (chunk: string) => stderr += chunk)
      child.on("close", (exit, signal) => code = exit ?? (signal === null ? -1 : -2))
      const program: Program = {
        pid: child.pid ?? 0,
        stdout: () => stdout,
        stderr: () => stderr,
        logs: () => stderr.split("\n").filter((line) => line.startsWith("{")).map((line) => JSON.parse(line)),
        signal: (signal) => Effect.sync(() => child.kill(signal)),
        exit: Effect.map(eventually(Effect.sync(() => code), (code) => code !== undefined), (code) => code ?? -1),
        says: (words) =>
          Effect.suspend(() => {
            if ((stdout + stderr).includes(words)) return Effect.succeed(true)
            return code === undefined
              ? Effect.succeed(false)
              : Effect.fail(`it ended with ${code} and never said "${words}":\n${stdout}${stderr}`)
          }).pipe((said) => eventually(said, (said) => said), Effect.asVoid)
      }
      return program
    }),
    (program) => Effect.andThen(program.signal("SIGKILL"), program.exit)
  )

/** Runs `effect-ray` to its end. */
export const run = (args: ReadonlyArray<string>, options: Options = {}) =>
  Effect.scoped(Effect.gen(function*() {
    const program = yield* start(args, options)
    const code = yield* program.exit
    return { code, stdout: program.stdout(), stderr: program.stderr() }
  }))

/** Calls the command in this process, which is quicker where no signal and no other process is needed. */
export const call = Effect.fnUntraced(
  function*(args: ReadonlyArray<string>, env: Readonly<Record<string, string>> = {}) {
    const stdout: Array<string> = []
    const stderr: Array<string> = []
    const capturing: Console.Console = {
      ...globalThis.console,
      log: (...words) => stdout.push(words.join(" ")),
      error: (...words) => stderr.push(words.join(" "))
    }
    const exit = yield* Cli.runWith(args, { version: "1.2.3" }).pipe(
      Effect.provideService(Console.Console, capturing),
      Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromEnv({ env: { ...env } })),
      Effect.provide(NodeServices.layer),
      Effect.exit
    )
    return { code: Cli.exitCode(exit, 130), stdout: stdout.join("\n"), stderr: stderr.join("\n") }
  }
)
