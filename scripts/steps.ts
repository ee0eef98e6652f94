/**
 * Runs commands and counts what they found.
 *
 * Everything a command prints goes to standard output, in order, so that the line with the sum stays the last one.
 */
import { spawn } from "node:child_process"
import { existsSync } from "node:fs"
import { fileURLToPath } from "node:url"

export interface Count {
  readonly passed: number
  readonly failed: number
}

export const none: Count = { passed: 0, failed: 0 }

export const add = (a: Count, b: Count): Count => ({ passed: a.passed + b.passed, failed: a.failed + b.failed })

/** The repository's folder. */
export const root: string = fileURLToPath(new URL("..", import.meta.url))

export interface Finished {
  readonly code: number
  readonly output: string
}

/** No step may take longer: a run that hangs must end as a failure, not as silence. */
const limitMilliseconds = 25 * 60_000

/** A test that leaves a process behind keeps its runner from ending, long after the report is written. */
const afterReportMilliseconds = 60_000

/** A process that was left behind may hold the pipes open; it is not waited for longer than this. */
const pipesMilliseconds = 5000

/** Runs one command in the repository's folder; `quiet` keeps its output back for the caller. */
export const run = (
  command: string,
  args: ReadonlyArray<string>,
  options: {
    readonly quiet?: boolean
    readonly env?: Readonly<Record<string, string>>
    /** The last file that the command writes: once it is there, the command has a minute to end. */
    readonly report?: string
  } = {}
): Promise<Finished> =>
  new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd: root,
      env: { ...process.env, ...(options.quiet === true ? { NO_COLOR: "1" } : {}), ...options.env },
      stdio: ["ignore", "pipe", "pipe"]
    })
    const chunks: Array<Buffer> = []
    const take = (chunk: Buffer) => {
      if (options.quiet === true) chunks.push(chunk)
      else process.stdout.write(chunk)
    }
    child.stdout.on("data", take)
    child.stderr.on("data", take)
    const limit = setTimeout(() => child.kill("SIGKILL"), limitMilliseconds)
    let reported = 0
    const watch = setInterval(() => {
      if (options.report === undefined || !existsSync(options.report)) return
      reported = reported || performance.now()
      if (performance.now() - reported < afterReportMilliseconds) return
      console.log(`${command} does not end: a test has left a process behind`)
      child.kill("SIGKILL")
    }, 1000)
    const end = (code: number, note = "") => {
      clearTimeout(limit)
      clearInterval(watch)
      child.stdout.destroy()
      child.stderr.destroy()
      resolve({ code, output: Buffer.concat(chunks).toString("utf8") + note })
    }
    child.on("error", (error) => end(127, `${command}: ${error.message}\n`))
    child.on("exit", (code, signal) => {
      const done = () => end(code ?? 1, signal === null ? "" : `${command} was ended by ${signal}\n`)
      const pipes = setTimeout(done, pipesMilliseconds)
      child.on("close", () => {
        clearTimeout(pipes)
        done()
      })
    })
  })

/** Runs a check that either holds or does not, and prints its output only when it does not. */
export const check = async (name: string, command: string, args: ReadonlyArray<string>): Promise<Count> => {
  const started = performance.now()
  const { code, output } = await run(command, args, { quiet: true })
  const seconds = ((performance.now() - started) / 1000).toFixed(1)
  console.log(`${code === 0 ? "ok    " : "FAILED"} ${name} (${seconds} s)`)
  if (code !== 0) console.log(output.trimEnd())
  return code === 0 ? { passed: 1, failed: 0 } : { passed: 0, failed: 1 }
}

/** Prints the sum as the last line and sets the exit code by it. */
export const finish = ({ failed, passed }: Count): void => {
  process.exitCode = failed === 0 && passed > 0 ? 0 : 1
  console.log(`${passed} passed, ${failed} failed`)
}
