/**
 * The application: it records a report in its own table, enqueues the work for it, and waits for that work.
 */
import { Effect, Exit, Schedule } from "effect"
import { Broker, type Execution, Task } from "effect-ray"
import { SqlClient } from "effect/sql"
import type { TextFile } from "./files.ts"
import { Progress } from "./progress.ts"
import { Compare, Notify, Summarise, Watch } from "./tasks.ts"

/** How many pairs of similar files are requested. */
const topPairs = 5

/** An execution that has ended: how it ended for its caller, and what the broker recorded about it. */
export interface Ended<A, E> {
  readonly what: string
  readonly exit: Exit.Exit<A, E>
  readonly record: Broker.Record
  readonly attempts: ReadonlyArray<Broker.AttemptRecord>
}

/** Runs the whole report over the files. */
export const run = Effect.fn("demo.report")(function*(folder: string, files: ReadonlyArray<TextFile>) {
  const sql = yield* SqlClient.SqlClient
  const progress = yield* Progress
  yield* createReports

  // The row and all its work: everything is there after a commit, and nothing after a rollback.
  const enqueued = yield* sql.withTransaction(Effect.gen(function*() {
    const rows = yield* sql<{ readonly id: number }>`
      INSERT INTO reports (folder, files)
      VALUES (${folder}, ${files.length})
      RETURNING id
    `
    const report = rows[0]!.id
    const watch = yield* Task.enqueue(Watch, { report })
    const summaries = yield* Task.enqueueAll(Summarise, files)
    const notify = yield* Task.enqueue(Notify, { report })
    return { report, watch, summaries, notify }
  }))
  yield* progress.step(`report ${enqueued.report} and ${files.length + 2} tasks committed in one transaction`)

  let done = 0
  let watching = "waits"
  const tell = Effect.suspend(() => progress.update(`${done} of ${files.length} files read, Watch ${watching}`))
  yield* tell
  const [summaries, notify, { cancelled, watch }] = yield* Effect.all([
    Effect.forEach(
      enqueued.summaries,
      (execution, index) =>
        ended(files[index]!.path, execution).pipe(Effect.tap(() => {
          done++
          return tell
        })),
      { concurrency: "unbounded" }
    ),
    ended("report", enqueued.notify),
    Effect.gen(function*() {
      // Its host starts it when others on that host have ended, so this cancels a running handler, not a queued row.
      const isRunning = yield* Broker.Broker.use((broker) => broker.read(enqueued.watch.id)).pipe(
        Effect.map((record) => done > 0 && record._tag === "Some" && record.value.state === "running"),
        Effect.repeat({ until: (running: boolean) => running, schedule: Schedule.spaced("50 millis") })
      )
      watching = isRunning ? "is being cancelled" : watching
      const cancelled = yield* enqueued.watch.cancel
      const watch = yield* ended("report", enqueued.watch)
      watching = "is cancelled"
      yield* tell
      return { cancelled, watch }
    })
  ], { concurrency: "unbounded" })
  yield* progress.step(`${done} of ${files.length} files read, Watch ${watching}`)

  const documents = summaries.flatMap(({ exit, what }) =>
    Exit.isSuccess(exit) ? [{ path: what, terms: exit.value.terms }] : []
  )
  const comparison = yield* Task.enqueue(Compare, { documents, top: topPairs })
  yield* progress.update(`comparing ${documents.length} files with NumPy`)
  const compare = yield* ended("all files", comparison)
  if (Exit.isSuccess(compare.exit)) {
    yield* sql`
      UPDATE reports
      SET finished_at = now(), pairs = ${JSON.stringify(compare.exit.value.pairs)}::jsonb
      WHERE id = ${enqueued.report}
    `
  }
  yield* progress.step(`${documents.length} files compared with NumPy`)
  return { summaries, notify, watch, cancelled, compare }
})

/** What `run` returns. */
export type Report = Effect.Success<ReturnType<typeof run>>

/** The application's own table, beside effect-ray's schema in the same database. */
const createReports = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    CREATE TABLE IF NOT EXISTS reports (
      id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      folder text NOT NULL,
      files int NOT NULL,
      finished_at timestamptz,
      pairs jsonb
    )
  `
})

const ended = Effect.fnUntraced(function*<A, E>(what: string, execution: Execution.Execution<A, E>) {
  const broker = yield* Broker.Broker
  const exit = yield* Effect.exit(execution.await)
  const record = yield* Effect.flatMap(broker.read(execution.id), Effect.fromOption)
  const attempts = yield* broker.attempts(execution.id)
  return { what, exit, record, attempts }
})
