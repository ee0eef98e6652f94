/** Processes that share a store, and die as by `kill -9`. */
import { it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Activity from "effect/workflow/Activity"
import * as Workflow from "effect/workflow/Workflow"
import type { WorkflowEngine } from "effect/workflow/WorkflowEngine"
import { Broker, type Record, type SupervisorId } from "../../src/Broker.ts"
import * as InProcessRunner from "../../src/InProcessRunner.ts"
import * as RunHost from "../../src/RunHost.ts"
import { RunStore } from "../../src/RunStore.ts"
import * as Supervisor from "../../src/Supervisor.ts"
import * as Worker from "../../src/Worker.ts"

export type Stores = Layer.Layer<RunStore | Broker, unknown>

/** The bodies of workflows. */
export type Bodies = Layer.Layer<never, never, WorkflowEngine>

/** A workflow whose id is its payload's. */
export const workflow = <
  const Tag extends string,
  S extends Schema.Top = typeof Schema.Any,
  E extends Schema.Top = Schema.Never
>(tag: Tag, options: { readonly success?: S; readonly error?: E } = {}) =>
  Workflow.make(tag, {
    payload: { id: Schema.String },
    success: (options.success ?? Schema.Any) as S,
    error: (options.error ?? Schema.Never) as E,
    idempotencyKey: ({ id }) => id
  })

/** A step that counts how often its body has run. */
export const makeSteps = () => {
  const log: Array<string> = []
  return {
    log,
    count: (name: string): number => log.filter((one) => one === name).length,
    step: <A>(name: string, value: A, millis = 0) =>
      Activity.make({
        name,
        success: Schema.Any,
        execute: Effect.suspend(() => {
          log.push(name)
          return millis === 0 ? Effect.succeed(value) : Effect.delay(Effect.succeed(value), millis)
        })
      })
  }
}

export interface Process {
  readonly run: <A, E, R>(
    effect: Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E, Exclude<R, WorkflowEngine | RunStore | Broker>>
  /** Nothing of it is heard any more, and its runs have no owner. */
  readonly kill: Effect.Effect<void>
  /** Completes when it has died by itself. */
  readonly died: Effect.Effect<void>
}

export interface ProcessOptions extends RunHost.Options {
  /** It dies with this commit, counted from 1: before it is recorded, or after that without a response. */
  readonly dieAt?: { readonly commit: number; readonly isRecorded: boolean }
}

/** Begins a process over the stores of the context. It ends with the scope. */
export const begin = (
  bodies: Bodies,
  { dieAt, ...options }: ProcessOptions = {}
): Effect.Effect<Process, never, RunStore | Broker | Scope.Scope> =>
  Effect.gen(function*() {
    const broker = yield* Broker
    const runs = yield* RunStore
    const died = yield* Deferred.make<void>()
    const supervisors: Array<SupervisorId> = []
    let isDead = false
    let commits = 0
    const hosts: Array<RunHost.RunHost["Service"]> = []
    const bury = Effect.suspend(() =>
      Effect.forEach(supervisors, (supervisor) => Effect.orDie(broker.unregister(supervisor)), { discard: true })
    )
    const die = Effect.sync(() => {
      isDead = true
      for (const host of hosts) host.abandon()
    }).pipe(Effect.andThen(bury), Effect.andThen(Deferred.succeed(died, undefined)), Effect.asVoid)
    /** What is asked has no response once the process is dead. */
    const mortal = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
      Effect.suspend(() =>
        isDead ? Effect.never : Effect.flatMap(effect, (value) => isDead ? Effect.never : Effect.succeed(value))
      )
    const ownBroker = Broker.of({
      ...broker,
      register: (options) => {
        supervisors.push(options.supervisor)
        return mortal(broker.register(options))
      },
      unregister: (id) => Effect.suspend(() => isDead ? Effect.void : broker.unregister(id)),
      tick: (options) => mortal(broker.tick(options)),
      takeTurn: (duty) => mortal(broker.takeTurn(duty)),
      awaitTerminal: (id) => mortal(broker.awaitTerminal(id))
    })
    const ownRuns = RunStore.of({
      ...runs,
      start: (run, options) => mortal(runs.start(run, options)),
      claim: (options) => mortal(runs.claim(options)),
      commit: (supervisor, commit) =>
        mortal(Effect.suspend(() => {
          if (++commits !== dieAt?.commit) return runs.commit(supervisor, commit)
          return dieAt.isRecorded
            ? Effect.andThen(runs.commit(supervisor, commit), Effect.andThen(die, Effect.never))
            : Effect.andThen(die, Effect.never)
        })),
      send: (messages) => mortal(runs.send(messages))
    })
    const stores = Context.make(Broker, ownBroker).pipe(Context.add(RunStore, ownRuns))
    const engine = Layer.provideMerge(bodies, RunHost.layerShared(options))
    const context = yield* Effect.provideContext(Layer.build(engine), stores)
    const host = Context.get(context, RunHost.RunHost)
    hosts.push(host)
    const worker = Worker.make({ tasks: [] })
    yield* Supervisor.run({ worker, runs: host, concurrency: 1, drain: 0 }).pipe(
      Effect.provide(InProcessRunner.layer(worker)),
      Effect.provideContext(stores),
      Effect.orDie,
      Effect.forkScoped
    )
    return {
      run: (effect) => Effect.provideContext(effect, Context.merge(stores, context)) as never,
      kill: die,
      died: Deferred.await(died)
    }
  })

export const dashed = (id: string): string => id.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-")

/** Waits until the run of this id is in a state. */
export const untilState = (id: string, state: Record["state"]): Effect.Effect<Record, unknown, Broker> =>
  Effect.gen(function*() {
    const broker = yield* Broker
    while (true) {
      const record = yield* broker.read(dashed(id))
      if (Option.isSome(record) && record.value.state === state) return record.value
      yield* Effect.sleep("3 millis")
    }
  })

/** Waits until a condition of this process holds. */
export const until = (holds: () => boolean): Effect.Effect<void> =>
  Effect.suspend(() => holds() ? Effect.void : Effect.delay(until(holds), "3 millis"))

/** A test over stores of its own. */
export const liveOver = (stores: Stores) => (name: string, test: Effect.Effect<unknown, unknown, any>): void =>
  it.live(name, () => test.pipe(Effect.scoped, Effect.provide(stores)) as Effect.Effect<unknown, unknown>)
