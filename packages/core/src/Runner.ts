/**
 * Where an attempt runs.
 *
 * A runner takes one attempt, runs it somewhere, and returns how it ended. It
 * decides nothing about retries and never sees the broker. `docs/runners.md` has
 * a table of them; each passes `test/RunnerSuite.ts`.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type { ExecutionId, Fence } from "./Broker.ts"
import { utf8Bytes } from "./internal/text.ts"
import { Ended } from "./Outcome.ts"
import type * as Definition from "./Definition.ts"
import { Undecodable } from "./TaskError.ts"

/**
 * Where an attempt runs, for people: "cluster/gateway/host" names, the node and the process.
 *
 * @category models
 */
export interface Place {
  readonly host: string
  readonly node: string
  readonly pid: number
}

/**
 * The stored form of a place.
 *
 * @category formatting
 */
export const formatPlace = (place: Place): string => `${place.host} on ${place.node} pid ${place.pid}`

/**
 * One attempt to run.
 *
 * @category models
 */
export interface Attempt {
  readonly execution: ExecutionId
  readonly fence: Fence
  readonly task: Definition.Any
  readonly queue: string
  /** 0 to 9, 9 first. */
  readonly priority: number
  /** From 1. */
  readonly attempt: number
  /** The payload's JSON text, as the task's Schema encoded it. */
  readonly payload: string
  readonly traceparent: Option.Option<string>
  /** After losses: run it alone in its process, so that a further loss is its own. */
  readonly suspect: boolean
  /**
   * Called at most once, when the handler is about to run: the timeout counts from here. For an attempt that ends at
   * once, it may be called together with the end, or not at all.
   */
  readonly onStart: (place: Place) => void
}

/**
 * The processes that the attempts of one or several tasks share, as the runner knows them now. The object stays the same
 * for these tasks; what it says changes.
 *
 * @category models
 */
export interface Pool {
  /**
   * How many attempts are worth having in flight at once; infinite where only the supervisor's concurrency bounds them.
   * Zero while there is no process: one attempt at a time then finds out whether there can be one.
   */
  readonly limit: number
  /** Why it is of no use to try, for instance without a gateway; undefined otherwise. */
  readonly closed: string | undefined
}

/** Runs attempts somewhere, one call each, and returns how they ended. @category services */
export class Runner extends Context.Service<Runner, {
  /** For logs and spans: `in-process`, `sync` or `ray`. */
  readonly name: string
  /** Whether this runner can run the task. Supervisors claim only what their runner can run. */
  readonly supports: (task: Definition.Any) => boolean
  /** Whether a suspect (`Attempt.suspect`) gets a process of its own. Where it does not, the supervisor runs it alone. */
  readonly isolatesSuspects: (task: Definition.Any) => boolean
  /** Where attempts of the task run. Tasks that share processes share the pool. */
  readonly pool: (task: Definition.Any) => Pool
  /** Calls `hear` whenever a pool has changed, until the scope closes. */
  readonly listen: (hear: () => void) => Effect.Effect<void, never, Scope.Scope>
  /**
   * Runs the attempt to its end. Interrupting it stops the attempt.
   *
   * The supervisor runs it uninterruptibly, so that the runner chooses: it makes interruptible what may be cut off
   * (being interrupted there counts as confirmed), or answers an interruption with `Ended.Interrupted`, or with the end
   * that came first.
   */
  readonly run: (attempt: Attempt) => Effect.Effect<Ended>
  /** The ends of these attempts are recorded: whatever kept them may forget them. */
  readonly acknowledge: (attempts: ReadonlyArray<Pick<Attempt, "execution" | "fence">>) => Effect.Effect<void>
}>()("@effect-ray/core/Runner") {}

/**
 * The end of an attempt that is not made because its payload has more than `maxBytes` (`Limits.MaxPayloadBytes`); none where it
 * has not. The limit was another where it was enqueued, or its row was written by hand.
 *
 * @category deciding
 */
export const refusalOf = (payload: string, maxBytes: number): Ended | undefined => {
  const bytes = utf8Bytes(payload, maxBytes)
  if (bytes <= maxBytes) return undefined
  const detail = `it has ${bytes} bytes and this worker takes ${maxBytes} (EFFECT_RAY_MAX_PAYLOAD_BYTES)`
  return Ended.Died({ reason: new Undecodable({ what: "payload", detail }) })
}

/**
 * A runner that hands each attempt to the first of these that supports its task.
 *
 * @category combining
 */
export const route = (runners: ReadonlyArray<Runner["Service"]>): Runner["Service"] => {
  const routes = new Map<string, Runner["Service"]>()
  const find = (task: Definition.Any): Runner["Service"] | undefined => {
    const found = routes.get(task._tag) ?? runners.find((runner) => runner.supports(task))
    if (found !== undefined) routes.set(task._tag, found)
    return found
  }
  // A supervisor asks only for tasks that are supported.
  const of = (task: Definition.Any): Runner["Service"] => find(task)!
  return Runner.of({
    name: runners.map(({ name }) => name).join(" and "),
    supports: (task) => find(task) !== undefined,
    isolatesSuspects: (task) => of(task).isolatesSuspects(task),
    pool: (task) => of(task).pool(task),
    listen: (hear) => Effect.forEach(runners, (runner) => runner.listen(hear), { discard: true }),
    run: (attempt) => of(attempt.task).run(attempt),
    // Those of other runners mean nothing to one.
    acknowledge: (attempts) => Effect.forEach(runners, (runner) => runner.acknowledge(attempts), { discard: true })
  })
}
