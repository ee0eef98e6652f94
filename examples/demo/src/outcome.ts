/**
 * The result of the report: the table, and whether everything went as it should.
 */
import { Cause, DateTime, Exit, Option } from "effect"
import { badFile } from "./badFile.ts"
import type { Ended, Report } from "./report.ts"
import { count, milliseconds, shorten, table } from "./table.ts"
import { NotText } from "./tasks.ts"

/** The longest path in the table, in characters. */
const pathWidth = 44

/** One row for each execution, and a note on the times. */
export const describe = (report: Report): string =>
  table([
    ["task", "of", "host", "node", "pid", "attempts", "queue wait", "run time ¹", "result"],
    ...report.summaries.map((ended) =>
      row(ended, ({ lines, longestLine, readingMinutes, words }) =>
        `${count(lines, "line")}, longest ${longestLine}, ${count(words, "word")}, ${readingMinutes} min to read`)
    ),
    row(report.notify, ({ deliveredAtAttempt }) =>
      `delivered at attempt ${deliveredAtAttempt}`),
    row(report.watch, () =>
      "ended by itself"),
    row(report.compare, ({ documents, numpy, terms }) =>
      `${count(documents, "file")} × ${count(terms, "term")} compared by NumPy ${numpy}`)
  ]) + "\n\n¹ Of the last attempt, from claim to end. The first ones include the wait for their host."

/** Pairs of files that use the same words. */
export const describePairs = (report: Report): string =>
  Exit.isSuccess(report.compare.exit)
    ? table([
      ["similarity", "file", "and file"],
      ...report.compare.exit.value.pairs.map(({ cosine, left, right }) => [
        cosine.toFixed(2),
        shorten(left, pathWidth),
        shorten(right, pathWidth)
      ])
    ])
    : "nothing was compared"

/** What went wrong, in sentences. */
export const complaints = (report: Report): ReadonlyArray<string> => {
  const found: Array<string> = []
  const expect = (holds: boolean, sentence: string) => {
    if (!holds) found.push(sentence)
  }
  const { cancelled, compare, notify, summaries, watch } = report
  for (const ended of summaries) {
    const error = errorOf(ended.exit)
    expect(Exit.isSuccess(ended.exit) || error instanceof NotText, `${ended.what}: ${resultOf(ended.exit, () => "")}`)
    expect(ended.attempts.length === 1, `${ended.what} took ${ended.attempts.length} attempts, not 1`)
    if (ended.what === badFile) expect(error instanceof NotText, `${badFile} was taken for text`)
  }
  expect(summaries.some(({ what }) => what === badFile), `${badFile} was not read`)
  expect(Exit.isSuccess(notify.exit), `Notify: ${resultOf(notify.exit, () => "")}`)
  expect(
    notify.attempts.map(({ outcome }) => outcome).join() === "retry,succeeded",
    `Notify should fail once and succeed then, its attempts are: ${
      notify.attempts.map(({ outcome }) => outcome).join()
    }`
  )
  expect(cancelled === "Requested", `cancelling Watch answered ${cancelled}, not Requested`)
  expect(
    watch.record.state === "cancelled" && watch.attempts.at(-1)?.confirmed === true,
    `Watch should be cancelled and confirmed, but it is ${watch.record.state}`
  )
  expect(Exit.isSuccess(compare.exit), `Compare: ${resultOf(compare.exit, () => "")}`)
  for (const { attempts, record, what } of [...summaries, notify, watch, compare]) {
    expect(
      attempts.every(({ place }) => Option.isSome(place)),
      `${record.task} of ${what} does not say where it ran`
    )
  }
  return found
}

const row = <A, E>(ended: Ended<A, E>, success: (value: A) => string): ReadonlyArray<string> => {
  const { attempts, exit, record, what } = ended
  const first = attempts[0]
  const last = attempts.at(-1)
  return [
    record.task,
    shorten(what, pathWidth),
    ...placeOf(last?.place ?? Option.none()),
    String(attempts.length),
    first === undefined ? "" : milliseconds(between(record.enqueuedAt, first.claimedAt)),
    last === undefined ? "" : milliseconds(between(last.claimedAt, last.endedAt)),
    resultOf(exit, success)
  ]
}

const between = (from: DateTime.Utc, to: DateTime.Utc) => DateTime.toEpochMillis(to) - DateTime.toEpochMillis(from)

/** The row's `place` is for people: host, node and process id in one text. */
const placeOf = (place: Option.Option<string>): ReadonlyArray<string> => {
  const match = /^(.*) on (.*) pid (\d+)$/.exec(Option.getOrElse(place, () => ""))
  return match === null ? ["", "", ""] : match.slice(1)
}

const errorOf = (exit: Exit.Exit<unknown, unknown>): unknown => Option.getOrUndefined(Exit.findErrorOption(exit))

const resultOf = <A, E>(exit: Exit.Exit<A, E>, success: (value: A) => string): string => {
  if (Exit.isSuccess(exit)) return success(exit.value)
  const error = errorOf(exit)
  if (error instanceof NotText) return `NotText: not UTF-8 from byte ${error.offset}`
  if (error instanceof Error) return error.message.replace(/^\w+ \([0-9a-f-]{36}\): /, "")
  return Cause.pretty(exit.cause)
}
