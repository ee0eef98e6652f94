/** The UUIDs of runs. Programs know runs by the execution ids of Effect's engine, which may be any text. */
import * as Effect from "effect/Effect"
import type { RunId } from "../../RunStore.ts"

const dashed = (hex: string): RunId =>
  `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`

const isHash = /^[0-9a-f]{32}$/

const encoder = new TextEncoder()

/**
 * `Workflow.execute` makes ids of 32 hexadecimal digits, which is a UUID without dashes. Of any other text the hash is
 * taken, with the workflow's name, because two workflows may use one text.
 */
export const runIdOf = (workflow: string, executionId: string): Effect.Effect<RunId> => {
  if (isHash.test(executionId)) return Effect.succeed(dashed(executionId))
  return Effect.promise(async () => {
    const text = encoder.encode(`${workflow.length}:${workflow}:${executionId}`)
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", text))
    return dashed(Array.from(digest.subarray(0, 16), (byte) => byte.toString(16).padStart(2, "0")).join(""))
  })
}
