/**
 * Every check and every test of the repository, summed into one line.
 *
 * A skipped test counts as failed: what is not brought by `make test` must fail there. So does a runner that crashes,
 * a file that cannot be loaded, and a project without a single test.
 */
import { mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { projects } from "../vitest.workspace.ts"
import { checks } from "./checks.ts"
import { add, type Count, finish, none, root, run } from "./steps.ts"

interface VitestReport {
  readonly numPassedTests: number
  readonly numFailedTests: number
  readonly numPendingTests: number
  readonly numTodoTests: number
  readonly testResults: ReadonlyArray<{
    readonly name: string
    readonly status: string
    readonly message: string
    readonly assertionResults: ReadonlyArray<{ readonly status: string }>
  }>
}

const complain = (what: string, failed = 1): Count => {
  console.log(`FAILED ${what}`)
  return { passed: 0, failed }
}

const readReport = <A>(file: string, parse: (text: string) => A): A | undefined => {
  try {
    return parse(readFileSync(file, "utf8"))
  } catch {
    return undefined
  }
}

const vitest = async (folder: string): Promise<Count> => {
  const file = join(folder, "vitest.json")
  const { code } = await run(
    "vitest",
    ["run", "--reporter=default", "--reporter=json", `--outputFile.json=${file}`],
    { report: file }
  )
  const report = readReport(file, (text) => JSON.parse(text) as VitestReport)
  if (report === undefined) return complain(`vitest wrote no report (exit code ${code})`)
  let count: Count = { passed: report.numPassedTests, failed: report.numFailedTests }
  const skipped = report.numPendingTests + report.numTodoTests
  if (skipped > 0) count = add(count, complain(`${skipped} vitest tests were skipped`, skipped))
  for (const result of report.testResults) {
    if (result.status === "failed" && !result.assertionResults.some((test) => test.status === "failed")) {
      count = add(count, complain(`${result.name} could not be run`))
    }
  }
  for (const project of projects) {
    const tests = join(root, project.root ?? "", "test") + "/"
    const ran = report.testResults.some((result) => result.name.startsWith(tests) && result.assertionResults.length > 0)
    if (!ran) count = add(count, complain(`vitest ran no test in ${project.root}/test`))
  }
  // For instance an error that nobody caught, between tests.
  if (code !== 0 && count.failed === 0) count = add(count, complain(`vitest ended with exit code ${code}`))
  return count
}

const pytest = async (folder: string): Promise<Count> => {
  const file = join(folder, "pytest.xml")
  // Ray cannot be started by a Python whose path has a space in it, and a checkout's may.
  const venv = join(folder, "venv")
  symlinkSync(join(root, ".venv"), venv)
  const { code, output } = await run(
    join(venv, "bin/python"),
    ["-m", "pytest", "-q", "-p", "no:cacheprovider", `--junitxml=${file}`, "packages/ray/gateway/tests"],
    { quiet: true, env: { PYTHONDONTWRITEBYTECODE: "1" }, report: file }
  )
  console.log(output.trimEnd())
  const report = readReport(file, (text) => {
    const suite = /<testsuite [^>]*>/.exec(text)?.[0] ?? ""
    const number = (name: string) => Number(new RegExp(` ${name}="(\\d+)"`).exec(suite)?.[1] ?? Number.NaN)
    return { tests: number("tests"), bad: number("failures") + number("errors"), skipped: number("skipped") }
  })
  if (report === undefined || Number.isNaN(report.tests + report.bad + report.skipped)) {
    return complain(`pytest wrote no report (exit code ${code})`)
  }
  let count: Count = { passed: Math.max(0, report.tests - report.bad - report.skipped), failed: report.bad }
  if (report.skipped > 0) count = add(count, complain(`${report.skipped} pytest tests were skipped`, report.skipped))
  if (report.tests === 0) count = add(count, complain("pytest found no test"))
  if (code !== 0 && count.failed === 0) count = add(count, complain(`pytest ended with exit code ${code}`))
  return count
}

const counted = (step: () => Promise<Count>): Promise<Count> =>
  step().catch((error: unknown) => complain(String(error)))

const folder = mkdtempSync(join(tmpdir(), "effect-ray-test-"))
let sum: Count = none
try {
  sum = add(sum, await counted(checks))
  // Side by side: most of what they do is to wait for processes.
  for (const count of await Promise.all([counted(() => vitest(folder)), counted(() => pytest(folder))])) {
    sum = add(sum, count)
  }
} finally {
  rmSync(folder, { recursive: true, force: true })
}
finish(sum)
