/** The JSON bodies that the gateway sends to a supervisor. `docs/gateway-protocol.md`, Frames. */
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Frame from "../Frame.ts"
import { cleanText } from "./cleanText.ts"

/** The body of LOST: why a call has no result. The text is from the gateway, a host or Ray. */
export const LostBody = Schema.Struct({
  kind: Schema.String,
  /** Which obstacle kept an `unplaced` call from getting a host. */
  why: Schema.optionalKey(Schema.String),
  detail: Schema.String,
  collateral: Schema.Boolean
})

/** The body of POOL_STATE: the state of a pool of hosts. */
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

/** How many characters of a body an error shows. */
const maxShown = 200

/** Makes a function that reads the body of a frame. It throws a `FrameError` for another body. */
const reader = <S extends Schema.ConstraintDecoder<unknown>>(name: string, schema: S) => {
  const decode = Schema.decodeUnknownResult(Schema.fromJsonString(schema))
  return (text: string): S["Type"] => {
    const body = decode(text)
    if (Result.isFailure(body)) {
      throw new Frame.FrameError(`not a body of ${name}: ${cleanText(text.slice(0, maxShown))}`)
    }
    return body.success
  }
}

const decodeLost = Schema.decodeUnknownResult(Schema.fromJsonString(LostBody))

/**
 * Reads the body of LOST. Its detail may end with the output of any program. Even if the body cannot be read, the call
 * has ended.
 */
export const readLost = (text: string): typeof LostBody.Type => {
  const lost = decodeLost(text)
  return Result.isSuccess(lost)
    ? { ...lost.success, detail: cleanText(lost.success.detail) }
    : { kind: "exit", detail: `its host wrote: ${cleanText(text.slice(0, maxShown))}`, collateral: false }
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
