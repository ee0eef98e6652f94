/**
 * Where an attempt runs.
 *
 * A runner takes one attempt, runs it somewhere, and returns how it ended. It decides nothing about retries and never
 * sees the broker. `docs/runners.md` compares the runners. Each of them passes `test/RunnerSuite.ts`.
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
 * Where an attempt ran. For people to read.
 *
 * @category models
 */
export interface Place {
  /** The host's name on Ray, for instance `effect_ray-e1-host-1`. Other runners give their own name. */
  readonly host: string
  /** The address of the host's node, or `this process`. */
  readonly node: string
  /** The id of the process, or 0 if it is not known. */
  readonly pid: number
}

/**
 * Formats a place as it is stored.
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
  /** The id of the execution, a UUID. */
  readonly execution: ExecutionId
  /** The fence that the claim gave the execution. */
  readonly fence: Fence
  /** The task whose handler runs. */
  readonly task: Definition.Any
  /** The queue that the execution was claimed from. */
  readonly queue: string
  /** The priority, from 0 to 9; 9 goes first. */
  readonly priority: number
  /** The number of the attempt, from 1. */
  readonly attempt: number
  /** The payload's JSON text, as the task's Schema encoded it. */
  readonly payload: string
  /** The W3C trace context of the caller that enqueued the execution, if it had one. */
  readonly traceparent: Option.Option<string>
  /**
   * Whether the execution is a suspect: it must run alone in its process, so that a further loss can only be its own.
   */
  readonly suspect: boolean
  /**
   * The runner calls it at most once, when the handler is about to run. The timeout starts then. For an attempt that
   * ends at once, it may be called together with the end, or not at all.
   */
  readonly onStart: (place: Place) => void
}

/**
 * The processes that attempts of one or more tasks share, as the runner currently knows them. The object stays the same
 * for these tasks; its fields change.
 *
 * @category models
 */
export interface Pool {
  /**
   * How many attempts should be in flight at once; infinite if only the supervisor's concurrency limits them. Zero
   * while there is no process: then one attempt at a time tests whether there can be one.
   */
  readonly limit: number
  /** Why trying is useless at present, for instance because there is no gateway. Undefined if it is not. */
  readonly closed: string | undefined
}

/** Runs attempts somewhere and returns how they ended. @category services */
export class Runner extends Context.Service<Runner, {
  /** The runner's name in logs and spans, for instance `in-process`, `sync` or `ray`. */
  readonly name: string
  /** Whether this runner can run the task. Supervisors only claim tasks that their runner supports. */
  readonly supports: (task: Definition.Any) => boolean
  /**
   * Whether a suspect (`Attempt.suspect`) of the task gets its own process. If not, the supervisor runs nothing else of
   * its pool beside it.
   */
  readonly isolatesSuspects: (task: Definition.Any) => boolean
  /** The pool in which attempts of the task run. Tasks that share processes share a pool. */
  readonly pool: (task: Definition.Any) => Pool
  /** Calls `hear` after each change of a pool, until the scope closes. */
  readonly listen: (hear: () => void) => Effect.Effect<void, never, Scope.Scope>
  /**
   * Runs the attempt until it ends. Interrupting it stops the attempt.
   *
   * The supervisor runs it uninterruptibly, so the runner decides how it stops. The runner may make parts
   * interruptible: an interruption there counts as confirmed. Or it may handle the interruption and return
   * `Ended.Interrupted`, or the end that came first.
   */
  readonly run: (attempt: Attempt) => Effect.Effect<Ended>
  /** Says that the ends of these attempts are recorded, so the runner may forget them. */
  readonly acknowledge: (attempts: ReadonlyArray<Pick<Attempt, "execution" | "fence">>) => Effect.Effect<void>
}>()("@effect-ray/core/Runner") {}

/**
 * Returns how an attempt ends whose payload has more than `maxBytes` bytes (`Limits.MaxPayloadBytes`): it is not run.
 * Undefined if the payload is not too large. It can be too large if the enqueuing process had another limit, or if the
 * row was written by hand.
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
 * Makes a runner that passes each attempt to the first of these runners that supports its task.
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
  // A supervisor only asks about supported tasks.
  const of = (task: Definition.Any): Runner["Service"] => find(task)!
  return Runner.of({
    name: runners.map(({ name }) => name).join(" and "),
    supports: (task) => find(task) !== undefined,
    isolatesSuspects: (task) => of(task).isolatesSuspects(task),
    pool: (task) => of(task).pool(task),
    listen: (hear) => Effect.forEach(runners, (runner) => runner.listen(hear), { discard: true }),
    run: (attempt) => of(attempt.task).run(attempt),
    // A runner ignores attempts that another one ran.
    acknowledge: (attempts) => Effect.forEach(runners, (runner) => runner.acknowledge(attempts), { discard: true })
  })
}
