/**
 * What every part of the suite works with: a workflow of its own, and workers hired for one test.
 *
 * Tests share a store, so each takes a name that no other has. In a real store a run is woken a moment after its message
 * was sent, so tests poll for what a message causes.
 */
import { assert, type Vitest } from "@effect/vitest"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { Broker, type Record, type SupervisorId } from "../../src/Broker.ts"
import type { BrokerError } from "../../src/BrokerError.ts"
import {
  type Activation,
  type Commit,
  type Committed,
  type JournalEntry,
  laneOf,
  type NewEntry,
  type NewRun,
  type Next,
  type RunId,
  RunStore,
  type Unread
} from "../../src/RunStore.ts"
import { eventually, lease, tickAndKeepUp, uuid } from "../brokerSuite/kit.ts"

export { eventually, lease, listenTo, pastLease, refusal, uuid } from "../brokerSuite/kit.ts"

/** The test API of one part: tests see both services and whatever else the layer provides. */
export type It<R> = Vitest.MethodsNonLive<RunStore | Broker | R>

/** Moves the store's durable clock. */
export type Advance<R> = (duration: Duration.Input) => Effect.Effect<void, never, RunStore | Broker | R>

export const running: Next = { _tag: "Running" }

export const over = (result = "\"done\"", state: "succeeded" | "failed" | "cancelled" = "succeeded"): Next => ({
  _tag: "Over",
  state,
  result
})

export const waiting = (options: { readonly wakeAt?: number; readonly held?: string } = {}): Next => ({
  _tag: "Waiting",
  wakeAtMillis: Option.fromUndefinedOr(options.wakeAt),
  held: Option.fromUndefinedOr(options.held)
})

export const entry = (key: string, options: Partial<NewEntry> = {}): NewEntry => ({
  key,
  source: "run",
  value: "1",
  atMillis: 1_700_000_000_123,
  message: undefined,
  ...options
})

/** The entry that a message becomes. */
export const moved = ({ atMillis, id, key, value }: Unread): NewEntry => ({
  key,
  source: "outside",
  value,
  atMillis,
  message: id
})

/** What is left of an entry in the journal. */
export const inJournal = ({ atMillis, key, source, value }: NewEntry): JournalEntry => ({
  key,
  source,
  value,
  atMillis
})

/** A claimed run, as far as a commit needs it. */
export type Claim = Pick<Activation, "id" | "fence" | "length">

/** What a test commits; everything has a default. */
export type Step = Partial<Pick<Commit, "entries" | "children" | "length" | "fence" | "next">>

export interface Worker {
  readonly id: SupervisorId
  readonly claim: (limit?: number) => Effect.Effect<ReadonlyArray<Activation>, BrokerError>
  readonly claimIds: (ids: ReadonlyArray<RunId>) => Effect.Effect<ReadonlyArray<Activation>, BrokerError>
  /** Claims exactly one, and waits for it. */
  readonly claimOne: Effect.Effect<Activation, BrokerError>
  readonly commit: (claim: Claim, step: Step) => Effect.Effect<Committed, BrokerError>
  readonly tick: Effect.Effect<Effect.Success<ReturnType<Broker["Service"]["tick"]>>, BrokerError>
  readonly leave: Effect.Effect<void, BrokerError>
}

/** A workflow, and helpers for one test. */
export const makeDesk = Effect.gen(function*() {
  const broker = yield* Broker
  const runs = yield* RunStore
  const workflow = `Flow-${uuid()}`

  const run = (overrides?: Partial<NewRun>): NewRun => ({
    id: uuid(),
    name: `run-${uuid()}`,
    workflow,
    payload: "{\"n\":1}",
    traceparent: Option.none(),
    timeout: Option.none(),
    ...overrides
  })

  /** Stores a run; with an owner, as its own. */
  const startAs = (given: NewRun, owner: Option.Option<SupervisorId> = Option.none()) =>
    runs.start(given, { owner, messages: [] })

  const start = (overrides?: Partial<NewRun>) => {
    const given = run(overrides)
    return Effect.map(startAs(given), (started) => {
      assert.strictEqual(started._tag, "Stored")
      return given.id
    })
  }

  const read = (id: RunId): Effect.Effect<Record, BrokerError> =>
    Effect.map(broker.read(id), Option.getOrThrowWith(() => new Error(`${id} is not known`)))

  const stateOf = (id: RunId) => Effect.map(read(id), ({ state }) => state)

  const becomes = (id: RunId, state: Record["state"]) =>
    eventually(`${id} is ${state}`, Effect.map(stateOf(id), (now) => now === state))

  const send = (id: RunId, ...keys: ReadonlyArray<string>) =>
    runs.send(keys.map((key) => ({ run: id, key, value: JSON.stringify(key) })))

  /** Registers a supervisor until the test ends. */
  const hire = (options?: { readonly workflows?: ReadonlyArray<string>; readonly lease?: Duration.Duration }) =>
    Effect.gen(function*() {
      const id = uuid()
      const workflows = options?.workflows ?? [workflow]
      const lanes = workflows.map(laneOf)
      const term = options?.lease ?? lease
      const leave = broker.unregister(id)
      yield* Effect.acquireRelease(
        broker.register({ supervisor: id, label: "suite", lanes, lease: term }),
        () => Effect.orDie(leave)
      )
      const claim = (limit = 10) => runs.claim({ supervisor: id, workflows, limit })
      const worker: Worker = {
        id,
        claim,
        claimIds: Effect.fnUntraced(function*(ids) {
          const claim = runs.claim({ supervisor: id, workflows: [], limit: ids.length, ids })
          let claimed = yield* claim
          // A store passes over a run that is just being woken.
          for (let tries = 0; claimed.length === 0 && tries < 5; tries++) {
            yield* Effect.promise(() => new Promise((resolve) => setTimeout(resolve, 10)))
            claimed = yield* claim
          }
          return claimed
        }),
        claimOne: Effect.gen(function*() {
          let claimed: ReadonlyArray<Activation> = []
          yield* eventually(
            "a run can be claimed",
            Effect.map(claim(1), (found) => {
              claimed = found
              return found.length === 1
            })
          )
          return claimed[0]!
        }),
        commit: ({ fence, id: run, length }, step) =>
          runs.commit(id, {
            run,
            fence,
            link: 1,
            length,
            entries: [],
            children: [],
            tasks: [],
            messages: [],
            next: running,
            ...step
          }),
        tick: tickAndKeepUp(broker, { supervisor: id, lanes, lease: term }),
        leave
      }
      return worker
    })

  /** A worker, and a run that it has claimed. */
  const holding = (overrides?: Partial<NewRun>) =>
    Effect.gen(function*() {
      const id = yield* start(overrides)
      const worker = yield* hire()
      const [claimed] = yield* worker.claimIds([id])
      assert.strictEqual(claimed?.id, id)
      return { id, worker, claimed: claimed! }
    })

  /** A run that waits for a message, last claimed by the worker. */
  const sleeping = (next: Next = waiting()) =>
    Effect.gen(function*() {
      const held = yield* holding()
      assert.deepStrictEqual(yield* held.worker.commit(held.claimed, { next }), done("waiting"))
      return held
    })

  return {
    broker,
    runs,
    workflow,
    lane: laneOf(workflow),
    run,
    start,
    startAs,
    read,
    stateOf,
    becomes,
    send,
    hire,
    holding,
    sleeping
  }
})

export const done = (state: "running" | "waiting" | "over", unread: ReadonlyArray<Unread> = []): Committed => ({
  _tag: "Done",
  state,
  unread
})

export const lost: Committed = { _tag: "Lost" }

export const unreadOf = (committed: Committed): ReadonlyArray<Unread> =>
  committed._tag === "Done" ? committed.unread : []

export const keysOf = (found: ReadonlyArray<{ readonly key: string }>): ReadonlyArray<string> =>
  found.map(({ key }) => key)
