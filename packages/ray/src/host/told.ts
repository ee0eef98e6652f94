/** What ends a thread, or the host, in words that reach whoever reads of it. */
import { describe } from "@effect-ray/core/Thrown"

/** The gateway keeps the last 1,800 bytes that a host writes, and its last line says where it happened as well. */
const limits = { maxDetailLength: 1_400, maxStackLength: 16_384 }

/** An error whose message tells all that is to be told: its name is that of what was thrown, which need not be copied. */
export class Told extends Error {
  override readonly name = "Told"
  constructor(words: string, stack?: string) {
    super(words)
    this.stack = stack ?? words
  }
}

/** What has been told already, be it in another thread, each property looked at once: anyone may give an error this name. */
const toldBefore = (thrown: unknown): Told | undefined => {
  try {
    if (!(thrown instanceof Error) || thrown.name !== "Told") return undefined
    const { message, stack } = thrown as { readonly message: unknown; readonly stack?: unknown }
    if (typeof message !== "string") return undefined
    const words = message.slice(0, limits.maxDetailLength)
    return new Told(words, typeof stack === "string" ? stack.slice(0, limits.maxStackLength) : undefined)
  } catch {
    return undefined
  }
}

/** Whatever was thrown, in words. */
export const toldOf = (thrown: unknown): Told => {
  const before = toldBefore(thrown)
  if (before !== undefined) return before
  const { stack, words } = describe(thrown, limits)
  return new Told(words, stack)
}

/**
 * Has what nobody has caught, a rejection as well, end its thread as it would anyway, but as `end` tells it: of an error that
 * crosses threads Node leaves out every field when one of them cannot be copied, and of a value that is no error all.
 */
export const tellCrashes = (end: (thrown: unknown) => never): void => {
  // Listeners that the worker's module has added decide for themselves.
  for (const event of ["unhandledRejection", "uncaughtException"] as const) {
    process.on(event, (thrown: unknown) => {
      if (process.listenerCount(event) === 1) end(thrown)
    })
  }
}
