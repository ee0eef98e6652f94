/** What the gateway tells a supervisor in JSON. `docs/gateway-protocol.md`, Frames. */
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Frame from "../Frame.ts"
import { cleanText } from "./cleanText.ts"

/** Why a call has no result. The gateway, a host, or Ray wrote it. */
export const LostBody = Schema.Struct({
  kind: Schema.String,
  /** Of an `unplaced` call: what kept it from a host. */
  why: Schema.optionalKey(Schema.String),
  detail: Schema.String,
  collateral: Schema.Boolean
})

/** A pool of hosts as it is now. */
export const PoolStateBody = Schema.Struct({
  ref: Schema.Int,
  pool: Schema.Int,
  state: Schema.Literals(["starting", "ready", "unschedulable", "failed"]),
  detail: Schema.String,
  slots: Schema.Int
})

export const HostUpBody = Schema.Struct({
  number: Schema.Int,
  host: Schema.String,
  node: Schema.String,
  pid: Schema.Int
})

export const HostDownBody = Schema.Struct({ number: Schema.Int })

export const RefusedBody = Schema.Struct({ reason: Schema.String })

/** The most characters of a body that an error shows. */
const maxShown = 200

/** Reads the body of a frame. What is no such body is a broken frame. */
const reader = <S extends Schema.ConstraintDecoder<unknown>>(name: string, schema: S) => {
  const decode = Schema.decodeUnknownResult(Schema.fromJsonString(schema))
  return (text: string): S["Type"] => {
    const body = decode(text)
    if (Result.isFailure(body)) throw new Frame.FrameError(`no body of ${name}: ${cleanText(text.slice(0, maxShown))}`)
    return body.success
  }
}

const decodeLost = Schema.decodeUnknownResult(Schema.fromJsonString(LostBody))

/** Its detail may end with the last words of any program. Whatever it is, the call has come to its end. */
export const readLost = (text: string): typeof LostBody.Type => {
  const lost = decodeLost(text)
  return Result.isSuccess(lost)
    ? { ...lost.success, detail: cleanText(lost.success.detail) }
    : { kind: "exit", detail: `its host said: ${cleanText(text.slice(0, maxShown))}`, collateral: false }
}

const decodePoolState = reader("POOL_STATE", PoolStateBody)

export const readPoolState = (text: string): typeof PoolStateBody.Type => {
  const state = decodePoolState(text)
  return { ...state, detail: cleanText(state.detail) }
}

export const readHostUp = reader("HOST_UP", HostUpBody)

export const readHostDown = reader("HOST_DOWN", HostDownBody)

const decodeRefused = reader("REFUSED", RefusedBody)

export const readRefused = (text: string): string => cleanText(decodeRefused(text).reason)
