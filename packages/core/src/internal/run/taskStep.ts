/** Tasks as steps of a workflow. */
import * as Effect from "effect/Effect"
import * as Hash from "effect/Hash"
import type { WorkflowInstance } from "effect/workflow/WorkflowEngine"
import type { Any } from "../../Definition.ts"
import * as Envelope from "../../Envelope.ts"
import type { TaskError } from "../../TaskError.ts"
import { type EnqueueOptions, rowsOf } from "../enqueue.ts"
import { Current, sourceOf, waitFor } from "./current.ts"

/**
 * The options of `Task.execute`.
 *
 * @category models
 */
export interface ExecuteOptions extends Omit<EnqueueOptions, "idempotencyKey" | "keyTimeToLive"> {
  /**
   * The step's name, unique among the steps of the run that execute this task. Default: made from the payload; equal
   * payloads are numbered.
   */
  readonly name?: string
}

/**
 * Enqueues an execution with the run's next commit, and waits for its end. A replay finds the same execution.
 *
 * The name is made from the payload, so calls side by side can change places between two versions of the code. Two
 * payloads with the same hash are only numbered together.
 */
export const execute = <T extends Any>(
  task: T,
  payload: unknown,
  options: ExecuteOptions = {}
): Effect.Effect<
  T["successSchema"]["Type"],
  T["errorSchema"]["Type"] | TaskError,
  WorkflowInstance | T["payloadSchema"]["EncodingServices"] | T["successSchema"]["DecodingServices"]
> =>
  Effect.gen(function*() {
    const current = yield* Current
    if (current === undefined) {
      return yield* Effect.die(new Error(`Task.execute(${task._tag}): only the body of a workflow may execute tasks`))
    }
    const { resident } = current
    const [row] = yield* Effect.orDie(rowsOf(task, [payload], options))
    const prefix = `task:${task._tag}:`
    const digest = (Hash.string(row!.payload) >>> 0).toString(16)
    const name = options.name ?? `${digest}/${resident.count(`${prefix}${digest}`)}`
    const started = yield* resident.once(
      `${prefix}${name}`,
      sourceOf(current),
      resident.owned,
      Effect.sync(() => {
        resident.startTask(row!)
        return JSON.stringify(row!.id)
      })
    )
    if (started === undefined) return yield* Effect.interrupt
    const executionId = JSON.parse(started.value) as string
    const ended = yield* Effect.onInterrupt(
      waitFor(current, resident.ask(`end:${executionId}`)),
      () => Effect.sync(() => resident.cancelTask(executionId))
    )
    if (ended === undefined) return yield* Effect.interrupt
    return yield* yield* Envelope.decode({
      task: task._tag,
      executionId,
      successSchema: task.successSchema,
      errorSchema: task.errorSchema,
      envelope: ended.value
    })
  })
