/** The stored form of exits: of steps, of deferreds and of runs. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"

const AnyOrVoid = Schema.Union([Schema.Any, Schema.Void])

/** A step's exit: its value and its error are JSON, its defects are not. */
const stepExit = Schema.fromJsonString(Schema.toCodecJson(Schema.Exit(AnyOrVoid, AnyOrVoid, Schema.Defect())))

/** A deferred's exit: its value, its error and its defects are JSON. */
const deferredExit = Schema.fromJsonString(Schema.toCodecJson(Schema.Exit(AnyOrVoid, AnyOrVoid, Schema.Any)))

const encodeStep = Schema.encodeEffect(stepExit)
const decodeStep = Schema.decodeEffect(stepExit)
const encodeDeferred = Schema.encodeEffect(deferredExit)
const decodeDeferred = Schema.decodeEffect(deferredExit)

type AnyExit = Exit.Exit<unknown, unknown>

const head = `{"_tag":"Success","value":`

/** Nearly all exits are successes, and those need no Schema. */
const encodeSuccess = (value: unknown): string => `${head}${JSON.stringify(value ?? null)}}`

const decodeSuccess = (json: string): AnyExit => Exit.succeed((JSON.parse(json) as { readonly value: unknown }).value)

export const step = {
  encode: (exit: AnyExit): Effect.Effect<string> =>
    Exit.isSuccess(exit) ? Effect.sync(() => encodeSuccess(exit.value)) : Effect.orDie(encodeStep(exit)),
  decode: (json: string): Effect.Effect<AnyExit> =>
    json.startsWith(head) ? Effect.sync(() => decodeSuccess(json)) : Effect.orDie(decodeStep(json))
}

export const deferred = {
  encode: (exit: AnyExit): Effect.Effect<string> =>
    Exit.isSuccess(exit) ? Effect.sync(() => encodeSuccess(exit.value)) : Effect.orDie(encodeDeferred(exit)),
  decode: (json: string): Effect.Effect<AnyExit> =>
    json.startsWith(head) ? Effect.sync(() => decodeSuccess(json)) : Effect.orDie(decodeDeferred(json))
}

/** The exit of a deferred that succeeds without a value. */
export const done = encodeSuccess(null)

/** What is stored of something that died with a defect that its workflow does not capture. */
const diedHead = `{"_tag":"Died","exit":`

/** Marks an encoded exit: whatever reads it dies with it, instead of returning it. */
export const died = (exit: string): string => `${diedHead}${exit}}`

/** The exit inside, if the text was marked by `died`. */
export const openDied = (json: string): string | undefined =>
  json.startsWith(diedHead) && json.endsWith("}") ? json.slice(diedHead.length, -1) : undefined
