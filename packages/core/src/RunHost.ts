/**
 * Effect's `WorkflowEngine` over a `RunStore`: standard programs of `effect/workflow` run on it unchanged.
 *
 * Results are given to a run's code in the order in which they were recorded, one at a time, when all of its fibers are
 * at rest. So `Effect.all`, `Effect.race`, `Effect.timeout`, `Effect.retry`, `Effect.sleep`, `Clock` and `Random` are
 * deterministic in the body of a workflow, and sleeps survive the process. What else the body does must depend on nothing
 * but its payload and what it was given: everything with an effect outside goes into an `Activity` or a task.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type * as Activity from "effect/workflow/Activity"
import * as Workflow from "effect/workflow/Workflow"
import * as Engine from "effect/workflow/WorkflowEngine"
import { Broker, type Record } from "./Broker.ts"
import * as bounds from "./internal/run/bounds.ts"
import * as codecs from "./internal/run/codecs.ts"
import { Current, ofStep, sourceOf, waitFor } from "./internal/run/current.ts"
import * as exits from "./internal/run/exits.ts"
import { type Host, makeHost } from "./internal/run/host.ts"
import { type Inside, withInside } from "./internal/run/engine.ts"
import { decodeResult } from "./internal/run/result.ts"
import { runIdOf } from "./internal/run/ids.ts"
import { persistently } from "./internal/persistently.ts"
import { currentTraceparent } from "./internal/trace.ts"
import * as InProcessRunner from "./InProcessRunner.ts"
import { type NewRun, type RunId, RunStore } from "./RunStore.ts"
import * as Supervisor from "./Supervisor.ts"
import * as Worker from "./Worker.ts"

/** How much a host does at once. @category models */
export interface Options {
  /** The most runs that do something at once. Runs that wait do not count. Default 500. */
  readonly maxActive?: number
  /** How much memory waiting runs may take, about, in characters of their journals. Default 64 Mi. */
  readonly maxResident?: number
}

/** The options of a host with a supervisor of its own. @category models */
export interface ServedOptions extends Options, Pick<Supervisor.Options, "lease" | "drain" | "label"> {}

/** The runs that a process has in memory. @category services */
export class RunHost extends Context.Service<RunHost, Host>()("@effect-ray/core/RunHost") {}

/**
 * An engine, and the runs behind it, for a supervisor to serve: see `Supervisor.Options.runs`.
 *
 * @category layers
 */
export const layerShared = (
  options: Options = {}
): Layer.Layer<Engine.WorkflowEngine | RunHost, never, RunStore | Broker> =>
  Layer.effectContext(Effect.gen(function*() {
    const store = yield* RunStore
    const broker = yield* Broker
    const outer = yield* Effect.context<never>()
    const host: Host = yield* makeHost(store, broker, () => engine, {
      maxActive: options.maxActive ?? defaultMaxActive,
      maxResident: options.maxResident ?? defaultMaxResident
    })
    const inside: Inside = {
      host,
      store,
      broker,
      newRun,
      resultOf: makeResultOf(broker, host),
      request: makeRequest(store, broker)
    }
    const engine = withInside(withStepCodecs(encoded(inside, outer)), inside)
    return Context.make(Engine.WorkflowEngine, engine).pipe(Context.add(RunHost, host))
  }))

/**
 * An engine with a supervisor of its own, which begins when the first workflow is registered. Without workflows it only
 * starts runs, which workers then serve.
 *
 * @category layers
 */
export const layer = (
  options: ServedOptions = {}
): Layer.Layer<Engine.WorkflowEngine, never, RunStore | Broker> => {
  const { drain, label, lease } = options
  const served = Layer.effectDiscard(Effect.gen(function*() {
    const runs = yield* RunHost
    const worker = Worker.make({ tasks: [] })
    const serve = Supervisor.run({
      worker,
      runs,
      concurrency: 1,
      ...(lease === undefined ? {} : { lease }),
      ...(drain === undefined ? {} : { drain }),
      ...(label === undefined ? {} : { label })
    }).pipe(
      Effect.provide(InProcessRunner.layer(worker)),
      Effect.orDie
    )
    yield* Effect.forkScoped(Effect.andThen(runs.registered.await, serve))
  }))
  return Layer.provideMerge(served, layerShared(options))
}

/**
 * The runs of a worker's workflows, for its supervisor to serve; undefined if it has no workflows. Fails if their layer
 * cannot be built.
 *
 * @category constructors
 */
export const ofWorker = (
  { workflows }: Worker.Worker,
  options?: Options
): Effect.Effect<Host | undefined, unknown, RunStore | Broker | Scope.Scope> =>
  workflows === undefined
    ? Effect.undefined
    : Effect.map(
      Layer.build(Layer.provideMerge(workflows, layerShared(options))),
      (context) => Context.get(context, RunHost)
    )

/** The most runs that do something at once. @category constants */
export const defaultMaxActive = 500

/** How much memory waiting runs may take, about, in characters. @category constants */
export const defaultMaxResident = 64 * 1024 * 1024

/** The engine, with codecs of steps that are compiled once for their Schemas, not once for every activity. */
const withStepCodecs = (encoded: Engine.Encoded): Engine.WorkflowEngine["Service"] => ({
  ...Engine.makeUnsafe(encoded),
  activityExecute: (activity, attempt) =>
    Effect.flatMap(
      encoded.activityExecute(activity as Activity.Any, attempt),
      (result): Effect.Effect<Workflow.Result<any, any>> =>
        result._tag === "Suspended"
          ? Effect.succeed(result)
          : Effect.map(
            Effect.orDie(codecs.ofStep(activity)(result.exit)),
            (exit) => new Workflow.Complete({ exit })
          )
    )
})

const newRun = Effect.fnUntraced(function*(workflow: Workflow.Any, executionId: string, payload: object) {
  yield* bounds.checkKey(executionId)
  const json = yield* bounds.boundPayload(
    `the payload of ${workflow._tag}`,
    yield* Effect.orDie(codecs.ofWorkflow(workflow).encodePayload(payload))
  )
  return {
    id: yield* runIdOf(workflow._tag, executionId),
    name: executionId,
    workflow: workflow._tag,
    payload: json,
    traceparent: yield* currentTraceparent,
    timeout: Option.none()
  } satisfies NewRun
})

/** Waits for the stored result of a run. */
const makeResultOf = (broker: Broker["Service"], host: Host) => (id: RunId): Effect.Effect<string> =>
  Effect.flatMap(host.closed(id), (result) =>
    result !== undefined
      ? Effect.succeed(result)
      : Effect.flatMap(persistently("await", broker.awaitTerminal(id)), (record) =>
        Option.match(
          Option.flatMap(record, ({ result }) => result),
          {
            onSome: Effect.succeed,
            onNone: () => Effect.die(new Error(`the run ${id} is not known, or not any more`))
          }
        )))

/** Sends a request to a run. A message waits for its run, and requests are not meant for one that starts later. */
const makeRequest = (store: RunStore["Service"], broker: Broker["Service"]) => (run: RunId, key: string) =>
  Effect.flatMap(persistently("read", broker.read(run)), (record) =>
    Option.isNone(record)
      ? Effect.void
      : persistently("send", store.send([{ run, key, value: "null" }])))

const encoded = (
  { broker, host, newRun, request, resultOf, store }: Inside,
  outer: Context.Context<never>
): Engine.Encoded => {
  const current = Effect.contextWith((context: Context.Context<never>) => Effect.succeed(Context.get(context, Current)))

  const currentOrDie = (what: string) =>
    Effect.flatMap(
      current,
      (found) =>
        found === undefined
          ? Effect.die(new Error(`${what}: not in the body of a workflow of this engine`))
          : Effect.succeed(found)
    )

  const executeChild = Effect.fnUntraced(function*(
    found: Current,
    workflow: Workflow.Any,
    run: NewRun,
    options: { readonly discard: boolean; readonly detached: boolean }
  ) {
    const { resident } = found
    const source = sourceOf(found)
    const start = Effect.sync(() => {
      resident.startChild({ run, detached: options.detached })
      return "null"
    })
    const started = yield* resident.once(`child:${run.id}`, source, resident.owned, start)
    if (started === undefined) return new Workflow.Suspended({})
    if (options.discard) {
      return (yield* resident.stored) ? undefined : new Workflow.Suspended({})
    }
    const ended = yield* waitFor(found, resident.ask(`end:${run.id}`))
    return ended === undefined ? new Workflow.Suspended({}) : yield* decodeResult(workflow, ended.value)
  })

  /** A replay asks for nothing. */
  const ask = Effect.fnUntraced(function*(workflow: Workflow.Any, executionId: string, key: string) {
    const found = yield* current
    if (found?.resident.isReplay !== true) yield* request(yield* runIdOf(workflow._tag, executionId), key)
  })

  return {
    register: host.register,

    execute: Effect.fnUntraced(function*(workflow: Workflow.Any, options: {
      readonly executionId: string
      readonly payload: object
      readonly discard: boolean
      readonly detached?: boolean | undefined
    }) {
      const run = yield* newRun(workflow, options.executionId, options.payload)
      const { detached = false, discard } = options
      const inside = yield* current
      if (inside !== undefined) return (yield* executeChild(inside, workflow, run, { discard, detached })) as any
      const inTransaction = yield* store.isInTransaction
      if (inTransaction && !discard) {
        return yield* Effect.die(
          new Error(
            `${workflow._tag}.execute: inside a transaction it would wait for a run that begins when the transaction `
              + "has committed; use { discard: true }, or execute it after the transaction"
          )
        )
      }
      yield* persistently("start", host.start(workflow, run, !discard && !inTransaction))
      if (discard) return
      if (workflow.suspendedRetrySchedule === undefined) {
        return (yield* decodeResult(workflow, yield* resultOf(run.id))) as any
      }
      // A schedule that ends must be able to end: its steps are the times at which the run waits.
      const waits = Effect.repeat(
        Effect.delay(persistently("read", broker.read(run.id)), "50 millis"),
        { until: (record) => Option.isSome(record) && record.value.state === "waiting" }
      )
      return (yield* Effect.raceFirst(
        Effect.flatMap(resultOf(run.id), (result) => decodeResult(workflow, result)),
        Effect.map(waits, () => new Workflow.Suspended({}))
      )) as any
    }) as Engine.Encoded["execute"],

    awaitComplete: (workflow, executionId) =>
      Effect.flatMap(runIdOf(workflow._tag, executionId), (id) => Effect.asVoid(resultOf(id))),

    poll: Effect.fnUntraced(function*(workflow: Workflow.Any, executionId: string) {
      const id = yield* runIdOf(workflow._tag, executionId)
      const record = yield* persistently("read", broker.read(id))
      return Option.isNone(record) ? Option.none() : yield* resultNow(workflow, record.value)
    }),

    interrupt: (workflow, executionId) => ask(workflow, executionId, "cancel"),
    interruptUnsafe: (workflow, executionId) => ask(workflow, executionId, "cancel at once"),
    resume: (workflow, executionId) => ask(workflow, executionId, "resume"),

    activityExecute: Effect.fnUntraced(function*(activity: Activity.Any, attempt: number) {
      const found = yield* currentOrDie(`the activity ${activity.name}`)
      const instance = yield* Engine.WorkflowInstance
      const { resident } = found
      let suspended = new Workflow.Suspended({})
      const work = Effect.suspend(() => {
        if (resident.isCancelling() && !instance.interrupted) return Effect.succeed(undefined)
        const own = Engine.WorkflowInstance.initial(instance.workflow, instance.executionId, {
          awaitedDeferreds: instance.awaitedDeferreds
        })
        own.interrupted = instance.interrupted
        const result = (activity.executeEncoded as Effect.Effect<unknown, unknown>).pipe(
          Workflow.intoResult,
          Effect.provideService(Engine.WorkflowInstance, own),
          Effect.updateContext(ofStep(found, outer))
        ) as Effect.Effect<Workflow.Result<unknown, unknown>>
        return Effect.exit(result).pipe(
          Effect.flatMap((exit): Effect.Effect<string | undefined> => {
            if (Exit.isFailure(exit)) {
              // An interruption is not a result.
              return Cause.hasInterruptsOnly(exit.cause)
                ? Effect.failCause(exit.cause)
                : Effect.map(exits.step.encode(exit), exits.died)
            }
            if (exit.value._tag === "Complete") {
              return Effect.flatMap(
                exits.step.encode(exit.value.exit),
                (json) => bounds.boundExit(`the result of ${activity.name}`, json)
              )
            }
            suspended = exit.value
            return Effect.succeed(undefined)
          })
        )
      })
      const entry = yield* resident.once(`step:${activity.name}/${attempt}`, sourceOf(found), resident.stored, work)
      // It is to be interrupted as soon as all of it waits, and begins nothing until then.
      if (entry === undefined && resident.isCancelling() && !instance.interrupted) {
        return yield* Effect.interruptible(Effect.never)
      }
      if (entry === undefined) return suspended
      const died = exits.openDied(entry.value)
      if (died !== undefined) return yield* exits.step.decode(died) as Effect.Effect<never>
      return new Workflow.Complete({ exit: yield* exits.step.decode(entry.value) })
    }),

    deferredResult: Effect.fnUntraced(function*({ name }) {
      const found = yield* currentOrDie(`the deferred ${name}`)
      const { resident } = found
      const instance = yield* Engine.WorkflowInstance
      // Only whoever registered a wait for it waits. Others ask whether there is a result.
      const entry = instance.awaitedDeferreds.has(name)
        ? yield* waitFor(found, resident.ask(`deferred:${name}`))
        : resident.peek(`deferred:${name}`)
      return entry === undefined ? Option.none() : Option.some(yield* exits.deferred.decode(entry.value))
    }),

    deferredDone: Effect.fnUntraced(function*({ deferredName, executionId, exit, workflowName }) {
      const run = yield* runIdOf(workflowName, executionId)
      const value = yield* bounds.boundExit(`the result of ${deferredName}`, yield* exits.deferred.encode(exit))
      const key = `deferred:${deferredName}`
      yield* bounds.checkKey(key)
      const found = yield* current
      if (found !== undefined && found.resident.id === run) {
        yield* found.resident.once(key, sourceOf(found), found.resident.owned, Effect.succeed(value))
        return
      }
      if (found !== undefined && found.step === undefined) {
        const { resident } = found
        const send = Effect.sync(() => {
          resident.sendMessage({ run, key, value })
          return "null"
        })
        yield* resident.once(`send:${key}:${run}`, "run", resident.owned, send)
        return
      }
      yield* persistently("send", store.send([{ run, key, value }]))
    }),

    scheduleClock: Effect.fnUntraced(function*(_workflow, { clock, executionId }) {
      const found = yield* currentOrDie(`the clock ${clock.name}`)
      const { resident } = found
      if (resident.name !== executionId) {
        return yield* Effect.die(new Error(`the clock ${clock.name}: not in the body of its own workflow`))
      }
      const until = yield* resident.once(
        `clock:${clock.name}`,
        sourceOf(found),
        resident.owned,
        Effect.sync(() => String(resident.now() + Duration.toMillis(clock.duration)))
      )
      if (until === undefined) return
      resident.setAlarm(`deferred:${clock.deferred.name}`, Number(until.value), exits.done)
    })
  }
}

/** What is known of a run's result now. */
const resultNow = (
  workflow: Workflow.Any,
  { held, result, state }: Record
): Effect.Effect<Option.Option<Workflow.Result<unknown, unknown>>> => {
  if (Option.isSome(result)) return Effect.asSome(decodeResult(workflow, result.value))
  if (state !== "waiting") return Effect.succeedNone
  return Effect.succeedSome(
    new Workflow.Suspended(Option.match(held, {
      onNone: () => ({}),
      onSome: (reason) => ({ failed: true, cause: Cause.die(new Error(reason)) })
    }))
  )
}
