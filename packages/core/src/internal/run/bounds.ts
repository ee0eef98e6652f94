/** What a store of runs can keep. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Limits from "../../Limits.ts"
import { utf8Bytes } from "../text.ts"
import * as exits from "./exits.ts"

/** Dies if a key cannot be stored: it is too long, or has characters that Postgres does not accept. */
export const checkKey = (key: string): Effect.Effect<void> => {
  const bytes = utf8Bytes(key, Limits.maxKeyBytes)
  const fault = bytes > Limits.maxKeyBytes
    ? `has ${bytes} bytes, more than ${Limits.maxKeyBytes}`
    : key.includes("\u0000") || !key.isWellFormed()
    ? "has a NUL character or half a surrogate pair"
    : undefined
  return fault === undefined
    ? Effect.void
    : Effect.die(new Error(`the name ${JSON.stringify(key.slice(0, 100))} cannot be stored: it ${fault}`))
}

const faultOf = (what: string, json: string, maxBytes: number): Error | undefined => {
  const bytes = utf8Bytes(json, maxBytes)
  return bytes > maxBytes ? new Error(`${what} has ${bytes} bytes as JSON, more than ${maxBytes}`) : undefined
}

/** An encoded exit, or one that died of the size. */
export const boundExit = (what: string, json: string): Effect.Effect<string> =>
  Effect.flatMap(Limits.MaxResultBytes, (maxBytes) => {
    const fault = faultOf(what, json, maxBytes)
    return fault === undefined ? Effect.succeed(json) : exits.step.encode(Exit.die(fault))
  })

/** Dies if a payload is too large. */
export const boundPayload = (what: string, json: string): Effect.Effect<string> =>
  Effect.flatMap(Limits.MaxPayloadBytes, (maxBytes) => {
    const fault = faultOf(what, json, maxBytes)
    return fault === undefined ? Effect.succeed(json) : Effect.die(fault)
  })
