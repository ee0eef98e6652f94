/** Makes RUN bodies. `docs/gateway-protocol.md`, RUN bodies. */
import * as Limits from "@effect-ray/core/Limits"
import type { Attempt } from "@effect-ray/core/Runner"
import type * as Task from "@effect-ray/core/Task"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"

type AnyPython = Task.PythonTask<string, Schema.Top, Schema.Top, Task.ErrorSchema>

const isPython = (task: Task.Any): task is AnyPython => task.runtime === "python"

/**
 * How a Python function receives its payload: a struct as keyword arguments of these names, no payload as no arguments,
 * and any other payload as the only argument. Other fields of a stored struct are not passed, just as an Effect handler
 * does not see them.
 */
const keywordsOf = (schema: Schema.Top): ReadonlyArray<string> | null => {
  if (SchemaAST.isVoid(schema.ast) || SchemaAST.isUndefined(schema.ast)) return []
  const encoded = SchemaAST.toEncoded(Schema.toCodecJson(schema).ast)
  if (!SchemaAST.isObjects(encoded) || encoded.indexSignatures.length > 0) return null
  return encoded.propertySignatures.map(({ name }) => String(name))
}

const pythonHeader = (task: AnyPython) => ({
  module: task.module,
  function: task.function,
  keywords: keywordsOf(task.payloadSchema),
  // The returned value is not used, and need not be JSON.
  ...(SchemaAST.isVoid(task.successSchema.ast) ? { discard: true } : {})
})

/** The beginning of the header, which is the same in all RUNs of a task: JSON without its closing brace. */
const prefixes = new WeakMap<Task.Any, string>()

const prefix = (task: Task.Any): string => {
  let known = prefixes.get(task)
  if (known === undefined) {
    known = JSON.stringify({ task: task._tag, ...(isPython(task) ? pythonHeader(task) : {}) }).slice(0, -1)
    prefixes.set(task, known)
  }
  return known
}

/** The longest trace context that is passed on, in characters. Those of version 00 have 55. */
const maxTraceparentLength = 512

/**
 * Makes the body of a RUN: the header, which is a line of JSON, then the payload as it is stored, without parsing it.
 *
 * JSON from `JSON.stringify` contains no line feed. So the header ends here, and nothing in a row can add to it.
 */
export const runBody = (attempt: Attempt): string => {
  const traceparent = Option.isSome(attempt.traceparent) && attempt.traceparent.value.length <= maxTraceparentLength
    ? `,"traceparent":${JSON.stringify(attempt.traceparent.value)}`
    : ""
  const queue = JSON.stringify(attempt.queue.slice(0, Limits.maxNameBytes))
  return `${prefix(attempt.task)},"attempt":${attempt.attempt},"queue":${queue},"suspect":${attempt.suspect}` +
    `${traceparent}}\n${attempt.payload}`
}
