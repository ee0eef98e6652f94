/**
 * The runs that this process has in memory, and the loops that serve them.
 *
 * The host claims with the supervisor of its process, which renews the lease. It has none before the supervisor has
 * registered, and after the lease has lapsed.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import type * as Workflow from "effect/workflow/Workflow"
import type { WorkflowEngine } from "effect/workflow/WorkflowEngine"
import type * as Broker from "../../Broker.ts"
import type { BrokerError } from "../../BrokerError.ts"
import * as Envelope from "../../Envelope.ts"
import {
  type Activation,
  maxLoaded,
  type Message,
  type NewRun,
  type RunId,
  type RunStore,
  type Started,
  type Told
} from "../../RunStore.ts"
import * as Timer from "../../Timer.ts"
import { makeDue } from "../due.ts"
import { makeHeap } from "../heap.ts"
import { persistently } from "../persistently.ts"
import { type Body, launch, type Process, type Registered } from "./launch.ts"
import type { JournalEntry } from "./journal.ts"
import type { Mismatch } from "./mismatch.ts"
import { replay } from "./replay.ts"
import type { Gone, Home, Resident } from "./resident.ts"

export interface Options {
  /** The most runs that do something at once. Runs that wait do not count. */
  readonly maxActive: number
  /** The most characters of journals and payloads of waiting runs that stay in memory. */
  readonly maxResident: number
}

/** How long to wait before a row that could not be claimed is given up. */
const missedPause = "100 millis"

/** How many journals are loaded at once. */
const maxLoading = 20

/** The most runs that one statement claims. */
const maxClaimed = 250

/** What a run in memory costs beside its journal, in characters. */
const residentCost = 10_000

export type Host = Effect.Success<ReturnType<typeof makeHost>>

/** A run in memory, and what its process knows of it. */
interface Hosted {
  readonly resident: Resident
  /** How much memory it takes, about, in characters. */
  readonly cost: number
}

export const makeHost = Effect.fnUntraced(function*(
  store: RunStore["Service"],
  broker: Broker.Broker["Service"],
  engine: () => WorkflowEngine["Service"],
  options: Options
) {
  const context = yield* Effect.context<never>()
  const clock = Context.get(context, Clock.Clock)
  const workflows = new Map<string, Registered>()
  const hosted = new Map<RunId, Hosted>()
  /** Waiting runs in memory, the one that has waited longest first, and what they cost. */
  const waiting = new Map<RunId, Hosted>()
  let waitingCost = 0
  let active = 0
  let owner: Broker.SupervisorId | undefined
  /** How far the store's clock is ahead of the process's, in milliseconds. */
  let ahead = 0
  const closings = new Map<RunId, Set<(gone: Gone) => void>>()
  const alarms = makeHeap<{ readonly atMillis: number; readonly resident: Resident }>((a, b) => a.atMillis < b.atMillis)
  const alarmed = Latch.makeUnsafe(false)
  const wanted = new Set<RunId>()
  /** Runs in memory whose rows could not be claimed. */
  const missed = new Set<RunId>()
  const wanting = Latch.makeUnsafe(false)
  const loading = Semaphore.makeUnsafe(maxLoading)
  const registered = Latch.makeUnsafe(false)
  let progressed = () => {}
  /** No run is begun any more. */
  let isDraining = false
  const processMillis = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
  const due = makeDue(processMillis)

  const fork = <A>(effect: Effect.Effect<A>): Fiber.Fiber<A> => {
    const fiber = Effect.runForkWith(context)(effect)
    return fiber
  }

  const process: Process = { context, engine, fork }

  const now = (): number => Math.round(processMillis() + ahead)

  const setNow = (millis: number): void => {
    ahead = millis - processMillis()
  }

  const home: Home = {
    now,
    commit: ({ run, ...item }, then) => {
      const supervisor = owner
      if (supervisor === undefined) return then({ _tag: "Lost" })
      fork(Effect.map(persistently("commit", store.commit(supervisor, { run, ...item })), then))
    },
    reclaim: (id) => {
      wanted.add(id)
      wanting.openUnsafe()
    },
    cancelTask: (id) => {
      fork(persistently("cancel", broker.cancel(id)))
    },
    alarm: (resident, atMillis) => {
      alarms.push({ atMillis, resident })
      if (alarms.peek()?.resident === resident) alarmed.openUnsafe()
    },
    waits: (resident) => {
      count()
      const one = hosted.get(resident.id)
      if (one?.resident !== resident) return
      waiting.set(resident.id, one)
      waitingCost += one.cost
      if (isDraining) resident.evict()
      else evict()
    },
    gone: (resident, why) => {
      const one = hosted.get(resident.id)
      if (one?.resident === resident) {
        hosted.delete(resident.id)
        if (waiting.delete(resident.id)) waitingCost -= one.cost
      }
      count()
      progressed()
      if (why._tag === "Again") return begin(why.activation)
      for (const close of closings.get(resident.id) ?? []) close(why)
      closings.delete(resident.id)
    }
  }

  /** Counts the runs that do something, and claims more if there is room. */
  const count = (): void => {
    active = 0
    for (const { resident } of hosted.values()) if (resident.isActive()) active++
    if (active < options.maxActive) due.open()
  }

  const evict = (): void => {
    for (const [id, { resident }] of waiting) {
      if (waitingCost <= options.maxResident) return
      waiting.delete(id)
      resident.evict()
    }
  }

  const hasRoom = (): boolean => !isDraining && active < options.maxActive

  /** Runs the code of a run that this process owns. */
  const run = (
    registered: Registered,
    activation: Activation,
    entries: ReadonlyArray<JournalEntry>
  ): Resident => {
    const { begin, resident } = launch(home, registered, { activation, entries }, process)
    hosted.set(activation.id, {
      resident,
      cost: residentCost + activation.payload.length + entries.reduce((sum, { value }) => sum + value.length, 0)
    })
    active++
    begin()
    return resident
  }

  /** Begins a claimed run, from its journal. */
  const begin = (activation: Activation): void => {
    const entry = workflows.get(activation.workflow)
    if (entry === undefined || owner === undefined || isDraining) return
    const before = hosted.get(activation.id)
    if (before !== undefined) {
      take(before)
      return before.resident.resume(activation)
    }
    if (activation.length === 0) {
      run(entry, activation, [])
      return
    }
    const by = owner
    fork(Effect.map(loading.withPermit(persistently("load", load(activation))), (entries) => {
      if (owner === by && !hosted.has(activation.id)) run(entry, activation, entries)
    }))
  }

  /** A run in memory does not wait any longer. */
  const take = (one: Hosted): void => {
    if (waiting.delete(one.resident.id)) waitingCost -= one.cost
  }

  const load = Effect.fnUntraced(function*({ id, length }: Activation) {
    const entries: Array<JournalEntry> = []
    while (entries.length < length) {
      const part = yield* store.load(id, entries.length)
      if (part.length === 0) break
      for (const entry of part) entries.push(entry)
      if (part.length < maxLoaded) break
    }
    return entries
  })

  const claimed = (activations: ReadonlyArray<Activation>): void => {
    if (activations.length > 0) setNow(activations[0]!.nowMillis)
    for (const activation of activations) begin(activation)
    count()
  }

  /** Claims, and begins what an earlier claim or start without a response may have taken. */
  const claim = (
    supervisor: Broker.SupervisorId,
    options: Omit<Parameters<RunStore["Service"]["claim"]>[0], "supervisor">
  ): Effect.Effect<ReadonlyArray<Activation>> => {
    const asked = Effect.tapError(store.claim({ supervisor, ...options }), () => Effect.sync(due.doubt))
    return Effect.tap(persistently("claim runs", asked, []), () => due.isDoubtful() ? recover(supervisor) : Effect.void)
  }

  const recover = (supervisor: Broker.SupervisorId): Effect.Effect<void> =>
    Effect.suspend(() => {
      due.resolve()
      return Effect.map(persistently("claim runs", store.owned(supervisor), []), (owned) => {
        for (const activation of owned) if (!hosted.has(activation.id)) begin(activation)
      })
    })

  const claimLoop = (supervisor: Broker.SupervisorId): Effect.Effect<never> =>
    Effect.forever(Effect.suspend(() => {
      due.close()
      const limit = Math.min(maxClaimed, options.maxActive - active)
      if (limit <= 0 || isDraining || workflows.size === 0) return due.wait(Number.POSITIVE_INFINITY)
      return Effect.flatMap(claim(supervisor, { workflows: [...workflows.keys()], limit }), (activations) => {
        claimed(activations)
        return activations.length === limit ? Effect.void : due.wait(Number.POSITIVE_INFINITY)
      })
    }))

  /** Claims the rows of runs in memory, many at once. */
  const reclaimLoop = (supervisor: Broker.SupervisorId): Effect.Effect<never> =>
    Effect.forever(Effect.suspend(() => {
      wanting.closeUnsafe()
      const ids = [...wanted]
      wanted.clear()
      if (ids.length === 0) return wanting.await
      return Effect.map(claim(supervisor, { workflows: [], limit: ids.length, ids }), (activations) => {
        claimed(activations)
        const found = new Set(activations.map(({ id }) => id))
        // Another process has them, or they are over.
        for (const id of ids) {
          const one = hosted.get(id)
          if (one === undefined || found.has(id) || !waiting.has(id)) missed.delete(id)
          // Another claim of this process may have it, and its response may be on its way.
          else if (missed.has(id)) {
            missed.delete(id)
            one.resident.evict()
          } else {
            missed.add(id)
            fork(Effect.delay(Effect.sync(() => home.reclaim(id)), missedPause))
          }
        }
      })
    }))

  const alarmLoop: Effect.Effect<never> = Effect.forever(Effect.suspend(() => {
    alarmed.closeUnsafe()
    for (let next = alarms.peek(); next !== undefined && next.atMillis <= now(); next = alarms.peek()) {
      alarms.pop()
      if (!next.resident.isGone()) next.resident.ring()
    }
    const next = alarms.peek()
    if (next === undefined) return alarmed.await
    return Effect.race(alarmed.await, Effect.sleep(Timer.bounded(Math.max(1, Math.ceil(next.atMillis - now())))))
  }))

  const evictAll = (): void => {
    for (const { resident } of hosted.values()) resident.evict()
  }

  yield* Effect.addFinalizer(() => Effect.sync(evictAll))

  return {
    register: (workflow: Workflow.Any, body: Body): Effect.Effect<void, never, Scope.Scope> =>
      Effect.contextWith((services: Context.Context<Scope.Scope>) => {
        const known = workflows.get(workflow._tag)
        if (known !== undefined) {
          return known.workflow === workflow ? Effect.void : Effect.logWarning(
            `two workflows are named "${workflow._tag}": the first one is served`
          )
        }
        workflows.set(workflow._tag, { workflow, body, context: services })
        registered.openUnsafe()
        due.open()
        return Effect.addFinalizer(() =>
          Effect.sync(() => {
            workflows.delete(workflow._tag)
            for (const { resident } of hosted.values()) if (resident.workflow === workflow._tag) resident.evict()
          })
        )
      }),

    /** Opened when a workflow is registered. */
    registered,

    /** The lanes of the registered workflows. */
    workflows: (): ReadonlyArray<string> => [...workflows.keys()],

    isServed: (workflow: string): boolean => workflows.has(workflow),

    /** Runs in memory, by the texts by which programs know them. */
    find: (id: RunId): Resident | undefined => hosted.get(id)?.resident,

    /** Stores a run, and begins it here if there is room. */
    start: (
      workflow: Workflow.Any,
      newRun: NewRun,
      isHere: boolean,
      messages: ReadonlyArray<Omit<Message, "run">> = []
    ): Effect.Effect<Started, BrokerError> =>
      Effect.suspend((): Effect.Effect<Started, BrokerError> => {
        const entry = workflows.get(workflow._tag)
        const by = owner
        if (!isHere || entry === undefined || by === undefined || !hasRoom() || hosted.has(newRun.id)) {
          return store.start(newRun, { owner: Option.none(), messages })
        }
        const asked = Effect.tapError(
          store.start(newRun, { owner: Option.some(by), messages }),
          () => Effect.sync(due.doubt)
        )
        return Effect.tap(asked, (started) =>
          Effect.sync(() => {
            if (started._tag === "Owned") {
              setNow(started.nowMillis)
              if (owner === by && !hosted.has(newRun.id)) run(entry, begun(newRun, started), [])
            }
            // It may have been stored and owned before, with the acknowledgement lost.
            if (started._tag === "Exists") {
              due.doubt()
              due.open()
            }
          }))
      }),

    /**
     * Replays a run, and uses what its code has come to. A run that is in memory is used as it is. Undefined if this
     * process does not have the code.
     */
    replay: <A, E, R>(
      told: Told,
      use: (resident: Resident) => Effect.Effect<A, E, R>
    ): Effect.Effect<A, Mismatch | E, R> | undefined => {
      const registered = workflows.get(told.workflow)
      return registered === undefined ? undefined : replay(registered, told, process, use)
    },

    /** Waits until a run in memory is over, and returns its result. Undefined if it leaves memory before. */
    closed: (id: RunId): Effect.Effect<string | undefined> =>
      Effect.callback((resume) => {
        if (!hosted.has(id)) return resume(Effect.succeed(undefined))
        const close = (gone: Gone) => resume(Effect.succeed(gone._tag === "Over" ? gone.result : undefined))
        const all = closings.get(id) ?? new Set()
        closings.set(id, all.add(close))
        return Effect.sync(() => all.delete(close))
      }),

    /**
     * Serves runs with this supervisor, until the scope closes. `onProgress` is called when a run has left memory.
     */
    serve: Effect.fnUntraced(function*(supervisor: Broker.SupervisorId, onProgress: () => void) {
      owner = supervisor
      isDraining = false
      progressed = onProgress
      yield* Effect.forkScoped(claimLoop(supervisor))
      yield* Effect.forkScoped(reclaimLoop(supervisor))
      yield* Effect.forkScoped(alarmLoop)
    }),

    /** The lease has lapsed: all runs have other owners. */
    abandon: (): void => {
      owner = undefined
      evictAll()
    },

    /** Begins no run any more. Those that wait leave memory. */
    drain: (): void => {
      isDraining = true
      for (const { resident } of waiting.values()) resident.evict()
    },

    /** How many runs do something. */
    active: (): number => active,

    hasRoom,

    /** Something may be due after this many milliseconds. */
    dueAfter: due.after,

    /** There may be messages for these runs. */
    look: (ids: ReadonlyArray<RunId>): void => {
      for (const id of ids) hosted.get(id)?.resident.look()
    }
  }
})

/** A run that its supervisor owns from the start. Messages that were there before come with its first commit. */
const begun = (
  { id, name, payload, timeout, traceparent, workflow }: NewRun,
  { fence, nowMillis }: Extract<Started, { readonly _tag: "Owned" }>
): Activation => ({
  id,
  name,
  workflow,
  payload,
  format: Envelope.format,
  fence,
  link: 1,
  length: 0,
  unread: [],
  startedAtMillis: nowMillis,
  expiresAtMillis: Option.map(timeout, (timeout) => nowMillis + Duration.toMillis(timeout)),
  nowMillis,
  traceparent
})
