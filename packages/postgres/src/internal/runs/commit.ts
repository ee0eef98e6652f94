/** Records what runs did, many in one statement. */
import { isUuid, printable } from "@effect-ray/core/BrokerInput"
import { maxDetailLength } from "@effect-ray/core/Limits"
import type { BrokerError } from "@effect-ray/core/BrokerError"
import * as Envelope from "@effect-ray/core/Envelope"
import * as RunStore from "@effect-ray/core/RunStore"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"
import * as Batcher from "../batcher.ts"
import type { Desk } from "../desk.ts"
import { rowsOf } from "../enqueue.ts"
import { laneId } from "../lanes.ts"
import { newsOf, type Woken } from "../notifier.ts"
import { isBadValue, isLockTimeout, retryTransient, unavailable } from "../sqlFailure.ts"
import { arrays, type Store } from "../store.ts"
import { maxUnreadBytesOfMany, maxUnreadOfMany, pack, readUnread, timeoutOf } from "./rows.ts"

type Commit = RunStore.Commit
type Committed = RunStore.Committed

interface Request {
  readonly supervisor: string
  readonly commit: Commit
}

/** The most that a batch weighs, in characters. A single commit may weigh more. */
const maxWeight = 16 * 1024 * 1024

/** The least that a commit weighs: this many fill a batch. */
const minWeight = maxWeight / 500

/** How long to wait before a commit is repeated whose run another transaction has locked. */
const lockedPause = "50 millis"

/** The last time at which a waiting run continues by itself, in milliseconds. */
const maxWakeMillis = Date.UTC(9999, 0, 1)

interface Answer extends Woken {
  readonly states: ReadonlyArray<"running" | "waiting" | "over" | "lost" | "locked">
  readonly unreads: ReadonlyArray<string | null>
}

export const makeCommit = Effect.fnUntraced(function*(
  store: Store,
  { noteLanes, notifier, partitions }: Desk
): Effect.fn.Return<RunStore.RunStore["Service"]["commit"], never, Scope.Scope> {
  const { s } = store

  const statement = (supervisor: string, commits: ReadonlyArray<Commit>, passLocked: boolean) => {
    const entries = flatten(
      commits,
      (commit) => commit.entries.map((entry, index) => ({ ...entry, seq: commit.length + index }))
    )
    const moved = entries.filter(({ item }) => item.message !== undefined)
    const carried = flatten(
      commits,
      ({ next }) => next._tag === "Continued" ? next.carried.map((entry, seq) => ({ ...entry, seq })) : []
    )
    const children = flatten(commits, ({ children }) => children)
    const tasks = flatten(commits, ({ tasks }) => tasks)
    const sent = flatten(commits, ({ messages }) => messages)
    return store.own((sql) =>
      sql<Answer>`
        SELECT * FROM ${s}.commit_runs(
          ${supervisor}, ${passLocked}, ${maxUnreadOfMany}, ${maxUnreadBytesOfMany}, ${RunStore.queue},
          ${arrays.uuid(commits.map(({ run }) => run))},
          ${arrays.int8(commits.map(({ fence }) => BigInt(fence)))},
          ${arrays.int4(commits.map(({ link }) => link))},
          ${arrays.int4(commits.map(({ length }) => length))},
          ${arrays.int4(commits.map(({ entries }) => entries.length))},
          ${arrays.text(commits.map(({ entries }) => entries.at(-1)?.key ?? null))},
          ${arrays.text(commits.map(({ next }) => nameOf(next)))},
          ${arrays.text(commits.map(({ next }) => resultOf(next)))},
          ${arrays.text(commits.map(journalOf))},
          ${arrays.float8(commits.map(({ next }) => wakeOf(next)))},
          ${arrays.text(commits.map(({ next }) => heldOf(next)))},
          ${arrays.int4(entries.map(({ ord }) => ord))},
          ${arrays.int4(entries.map(({ item }) => item.seq))},
          ${arrays.text(entries.map(({ item }) => item.key))},
          ${arrays.bool(entries.map(({ item }) => item.source === "outside"))},
          ${arrays.text(entries.map(({ item }) => item.value))},
          ${arrays.float8(entries.map(({ item }) => item.atMillis))},
          ${arrays.int4(moved.map(({ ord }) => ord))},
          ${arrays.int8(moved.map(({ item }) => BigInt(item.message!)))},
          ${arrays.int4(carried.map(({ ord }) => ord))},
          ${arrays.int4(carried.map(({ item }) => item.seq))},
          ${arrays.text(carried.map(({ item }) => item.key))},
          ${arrays.text(carried.map(({ item }) => item.value))},
          ${arrays.float8(carried.map(({ item }) => item.atMillis))},
          ${arrays.int4(children.map(({ ord }) => ord))},
          ${arrays.uuid(children.map(({ item }) => item.run.id))},
          ${arrays.text(children.map(({ item }) => item.run.name))},
          ${arrays.text(children.map(({ item }) => item.run.workflow))},
          ${arrays.int8(children.map(({ item }) => laneId(RunStore.laneOf(item.run.workflow))))},
          ${arrays.text(children.map(({ item }) => item.run.payload))},
          ${arrays.int4(children.map(() => Envelope.format))},
          ${arrays.text(children.map(({ item }) => Option.getOrNull(item.run.traceparent)))},
          ${arrays.float8(children.map(({ item }) => timeoutOf(item.run)))},
          ${arrays.bool(children.map(({ item }) => item.detached))},
          ${arrays.int4(tasks.map(({ ord }) => ord))}, ${rowsOf(store, tasks.map(({ item }) => item))},
          ${arrays.int4(sent.map(({ ord }) => ord))},
          ${arrays.uuid(sent.map(({ item }) => item.run))},
          ${arrays.text(sent.map(({ item }) => item.key))},
          ${arrays.text(sent.map(({ item }) => item.value))}
        )
      `, { characters: commits.reduce((sum, commit) => sum + weigh(commit), 0) }).pipe(
        Effect.flatMap(([answer]) => {
          const { states, unreads } = answer!
          notifier.woken(answer!)
          const queued = commits.filter((_, index) => states[index] !== "lost" && states[index] !== "locked")
          const enqueued = queued.flatMap(({ tasks }) => tasks)
          if (enqueued.length > 0) notifier.enqueued(newsOf(enqueued), false)
          const started = queued.flatMap(({ children }) => children)
          if (started.length > 0) notifier.enqueued(new Map([[RunStore.queue, 0]]), false)
          if (enqueued.length + started.length > 0) {
            notifier.background(
              noteLanes([...enqueued, ...started.map(({ run }) => RunStore.laneOf(run.workflow))])
            )
          }
          return Effect.forEach(
            states,
            (state, index): Effect.Effect<Committed | "locked", SqlError> =>
              state === "locked"
                ? Effect.succeed("locked")
                : state === "lost"
                ? Effect.succeed({ _tag: "Lost" })
                : Effect.map(readUnread(store, commits[index]!.run, unreads[index]!), (unread) => ({
                  _tag: "Done",
                  state,
                  unread
                }))
          )
        })
      )
  }

  /** Rows that other transactions hold are skipped and repeated, so that the rest need not wait. */
  const pass = (
    supervisor: string,
    commits: ReadonlyArray<Commit>
  ): Effect.Effect<ReadonlyArray<Committed | "locked">, SqlError> =>
    retryTransient(
      Effect.catchIf(
        statement(supervisor, commits, false),
        isLockTimeout,
        () => statement(supervisor, commits, true)
      )
    )

  /** Halves the batch until the commit that cannot be stored is alone. */
  const run = (
    supervisor: string,
    commits: ReadonlyArray<Commit>
  ): Effect.Effect<ReadonlyArray<Exit.Exit<Committed | "locked", BrokerError>>> =>
    Effect.matchEffect(partitions.filing(pass(supervisor, commits)), {
      onSuccess: (answers) => Effect.succeed(answers.map((answer) => Exit.succeed(answer))),
      onFailure: (error) => {
        if (commits.length === 1 || !isBadValue(error)) {
          return Effect.succeed(commits.map(() => Exit.fail(unavailable("commit")(error))))
        }
        const middle = Math.ceil(commits.length / 2)
        return Effect.zipWith(
          run(supervisor, commits.slice(0, middle)),
          run(supervisor, commits.slice(middle)),
          (first, second) => [...first, ...second]
        )
      }
    })

  /** Each statement has one supervisor: nearly always there is one in a process. */
  const runAll = Effect.fnUntraced(function*(requests: ReadonlyArray<Request>) {
    const answers = new Map<Request, Exit.Exit<Committed | "locked", BrokerError>>()
    for (const supervisor of new Set(requests.map((request) => request.supervisor))) {
      const own = requests.filter((request) => request.supervisor === supervisor)
      const found = yield* run(supervisor, own.map(({ commit }) => commit))
      own.forEach((request, index) => answers.set(request, found[index]!))
    }
    return requests.map((request) => answers.get(request)!)
  })

  const batched = yield* Batcher.make<Request, Committed | "locked">({
    concurrency: 2,
    maxWeight,
    weigh: ({ commit }) => weigh(commit),
    // One statement cannot record two commits of one run.
    marks: ({ commit }) => [commit.run],
    run: (requests) => runAll(requests)
  })

  const commit = (request: Request): Effect.Effect<Committed, BrokerError> =>
    Effect.flatMap(
      batched(request),
      (answer) =>
        answer === "locked" ? Effect.delay(Effect.suspend(() => commit(request)), lockedPause) : Effect.succeed(answer)
    )

  // Ids and fences come from claims. No supervisor owns anything else.
  return (supervisor, item) =>
    isUuid(supervisor) && isUuid(item.run) && Number.isSafeInteger(item.fence)
      ? commit({ supervisor, commit: item })
      : Effect.succeed({ _tag: "Lost" })
})

/** The items of all commits, each with the position of its commit, from 1. */
const flatten = <A>(
  commits: ReadonlyArray<Commit>,
  items: (commit: Commit) => ReadonlyArray<A>
): ReadonlyArray<{ readonly ord: number; readonly item: A }> =>
  commits.flatMap((commit, index) => items(commit).map((item) => ({ ord: index + 1, item })))

/** The result of a run that is over, or the payload of its next link. */
const resultOf = (next: RunStore.Next): string | null =>
  next._tag === "Over" ? next.result : next._tag === "Continued" ? next.payload : null

const nameOf = (next: RunStore.Next): string => next._tag === "Over" ? next.state : next._tag.toLowerCase()

/** A run that is over at its first commit never has rows in the journal. */
const journalOf = ({ entries, length, next }: Commit): string | null =>
  next._tag === "Over" && length === 0 ? pack(entries) : null

const heldOf = (next: RunStore.Next): string | null =>
  next._tag === "Waiting" ? Option.getOrNull(Option.map(next.held, (held) => printable(held, maxDetailLength))) : null

const wakeOf = (next: RunStore.Next): number | null =>
  next._tag !== "Waiting" || Option.isNone(next.wakeAtMillis)
    ? null
    : Math.max(0, Math.min(next.wakeAtMillis.value, maxWakeMillis))

const weigh = ({ children, entries, messages, next, tasks }: Commit): number =>
  Math.max(
    minWeight,
    entries.reduce((sum, { value }) => sum + value.length, 0)
      + children.reduce((sum, { run }) => sum + run.payload.length, 0)
      + tasks.reduce((sum, { payload }) => sum + payload.length, 0)
      + messages.reduce((sum, { value }) => sum + value.length, 0)
      + (resultOf(next)?.length ?? 0)
  )
