/** RUN bodies. `docs/gateway-protocol.md`, RUN bodies. */
import type { Attempt } from "@effect-ray/core/Runner"
import type * as Task from "@effect-ray/core/Task"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"

const isPython = (task: Task.Any): task is Task.PythonTask<string, Schema.Top, Schema.Top, Task.ErrorSchema> =>
  task.runtime === "python"

/** How a Python function takes its payload: a struct as keyword arguments, nothing as none, all else as the one argument. */
const pythonArguments = (schema: Schema.Top): "keywords" | "none" | "one" => {
  const encoded = SchemaAST.toEncoded(Schema.toCodecJson(schema).ast)
  if (SchemaAST.isObjects(encoded)) return encoded.indexSignatures.length === 0 ? "keywords" : "one"
  return SchemaAST.isVoid(schema.ast) || SchemaAST.isUndefined(schema.ast) ? "none" : "one"
}

/** What is the same in all RUNs of a task, begun as JSON and not ended; and whether the payload is left out. */
const prefixes = new WeakMap<Task.Any, { readonly text: string; readonly none: boolean }>()

const prefix = (task: Task.Any) => {
  let known = prefixes.get(task)
  if (known === undefined) {
    const how = isPython(task) ? pythonArguments(task.payloadSchema) : "one"
    const own = isPython(task) ? { module: task.module, function: task.function, keywords: how !== "one" } : {}
    known = { text: JSON.stringify({ task: task._tag, ...own }).slice(0, -1), none: how === "none" }
    prefixes.set(task, known)
  }
  return known
}

/** The body of a RUN. The payload goes in as it is stored, unparsed. */
export const runBody = (attempt: Attempt): string => {
  const { text, none } = prefix(attempt.task)
  const traceparent = Option.isSome(attempt.traceparent)
    ? `,"traceparent":${JSON.stringify(attempt.traceparent.value)}`
    : ""
  return `${text},"attempt":${attempt.attempt},"queue":${JSON.stringify(attempt.queue)},"suspect":${attempt.suspect}` +
    `${traceparent},"payload":${none ? "{}" : attempt.payload}}`
}
