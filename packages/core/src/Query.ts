/**
 * Questions about the state of a run.
 *
 * The body of a workflow says how a query is answered; any process that has the workflow's code answers it, from the run
 * in its memory or by a replay of the run's history. So queries work for runs that wait, that another process runs, and
 * that have ended, as long as their record is kept. Answering changes nothing.
 *
 * ```ts
 * class Status extends Query.make("Status", { success: Schema.Literals(["waiting", "approved"]) }) {}
 *
 * // In the body of a workflow:
 * yield* Query.handle(Status, Ref.get(status))
 * // Anywhere:
 * const status = yield* run.query(Status)
 * ```
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { WorkflowInstance } from "effect/workflow/WorkflowEngine"
import { Current } from "./internal/run/current.ts"

const TypeId = "~@effect-ray/core/Query"

/** The definition of a query. @category models */
export interface Query<out Tag extends string, out S extends Schema.Top> {
  new(_: never): {}
  readonly [TypeId]: typeof TypeId
  /** The query's name. A workflow answers by it. */
  readonly _tag: Tag
  /** The Schema of its answer. */
  readonly successSchema: S
}

/** Any query. @category models */
export interface Any extends Query<string, Schema.Top> {}

/**
 * Defines a query. Extend it as a class.
 *
 * @category constructors
 */
export const make = <const Tag extends string, S extends Schema.Top>(
  tag: Tag,
  options: { readonly success: S }
): Query<Tag, S> => {
  function QueryDefinition() {}
  return Object.assign(QueryDefinition, { [TypeId]: TypeId, _tag: tag, successSchema: options.success }) as never
}

/**
 * Says how this run answers a query from now on. The answer is an Effect without services: it reads the body's own state,
 * such as a `Ref`, and must not change it.
 *
 * @category handling
 */
export const handle = <Q extends Any>(
  query: Q,
  answer: Effect.Effect<Q["successSchema"]["Type"]>
): Effect.Effect<void, never, WorkflowInstance | Q["successSchema"]["EncodingServices"]> =>
  Effect.gen(function*() {
    const current = yield* Current
    if (current === undefined) {
      return yield* Effect.die(new Error(`Query.handle(${query._tag}): only the body of a workflow answers queries`))
    }
    const services = yield* Effect.context<Q["successSchema"]["EncodingServices"]>()
    const encode = Schema.encodeEffect(Schema.fromJsonString(Schema.toCodecJson(query.successSchema)))
    const encoded = (value: Q["successSchema"]["Type"]): Effect.Effect<string> =>
      Effect.provideContext(Effect.orDie(encode(value)), services) as Effect.Effect<string>
    current.resident.queries.set(query._tag, Effect.flatMap(answer, encoded))
  })
