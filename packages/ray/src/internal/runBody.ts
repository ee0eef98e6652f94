/** RUN bodies. `docs/gateway-protocol.md`, RUN bodies. */
import * as Limits from "@effect-ray/core/Limits"
import type { Attempt } from "@effect-ray/core/Runner"
import type * as Task from "@effect-ray/core/Task"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"

type AnyPython = Task.PythonTask<string, Schema.Top, Schema.Top, Task.ErrorSchema>

const isPython = (task: Task.Any): task is AnyPython => task.runtime === "python"

/** How a Python function takes its payload: a struct as keyword arguments, nothing as none, all else as the one argument. */
const pythonArguments = (schema: Schema.Top): "keywords" | "none" | "one" => {
  const encoded = SchemaAST.toEncoded(Schema.toCodecJson(schema).ast)
  if (SchemaAST.isObjects(encoded)) return encoded.indexSignatures.length === 0 ? "keywords" : "one"
  return SchemaAST.isVoid(schema.ast) || SchemaAST.isUndefined(schema.ast) ? "none" : "one"
}

const pythonHeader = (task: AnyPython, how: "keywords" | "none" | "one") => ({
  module: task.module,
  function: task.function,
  keywords: how !== "one",
  // What it returns is of no interest, and need not be JSON.
  ...(SchemaAST.isVoid(task.successSchema.ast) ? { discard: true } : {})
})

/** The header's beginning, the same in all RUNs of a task, as JSON that is not ended; and whether the payload is left out. */
const prefixes = new WeakMap<Task.Any, { readonly text: string; readonly none: boolean }>()

const prefix = (task: Task.Any) => {
  let known = prefixes.get(task)
  if (known === undefined) {
    const how = isPython(task) ? pythonArguments(task.payloadSchema) : "one"
    const own = isPython(task) ? pythonHeader(task, how) : {}
    known = { text: JSON.stringify({ task: task._tag, ...own }).slice(0, -1), none: how === "none" }
    prefixes.set(task, known)
  }
  return known
}

/** The longest trace context that is passed on. Those of version 00 have 55 characters. */
const maxTraceparentLength = 512

/**
 * The body of a RUN: the header, a line of JSON, then the payload as it is stored, unparsed.
 *
 * JSON that `JSON.stringify` writes has no line feed in it, so the header ends where we end it, and nothing that stands
 * in a row can add to it.
 */
export const runBody = (attempt: Attempt): string => {
  const { text, none } = prefix(attempt.task)
  const traceparent = Option.isSome(attempt.traceparent) && attempt.traceparent.value.length <= maxTraceparentLength
    ? `,"traceparent":${JSON.stringify(attempt.traceparent.value)}`
    : ""
  const queue = JSON.stringify(attempt.queue.slice(0, Limits.maxNameBytes))
  return `${text},"attempt":${attempt.attempt},"queue":${queue},"suspect":${attempt.suspect}` +
    `${traceparent}}\n${none ? "{}" : attempt.payload}`
}
