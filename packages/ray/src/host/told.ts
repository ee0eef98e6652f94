/** Describes an error that ends a thread or the host. */
import { describe } from "@effect-ray/core/Thrown"

/** The gateway keeps the last 1,800 bytes of a host's standard error, whose last line also says what failed. */
const limits = { maxDetailLength: 1_400, maxStackLength: 16_384 }

/**
 * An error whose message is the complete description of a thrown value, including its name. The value itself need not
 * be copied to another thread.
 */
export class Told extends Error {
  override readonly name = "Told"
  constructor(words: string, stack?: string) {
    super(words)
    this.stack = stack ?? words
  }
}

/**
 * Returns an error that is already described, possibly by another thread. Any error may have this name, so each
 * property is read once and checked.
 */
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

/** Describes a thrown value. */
export const toldOf = (thrown: unknown): Told => {
  const before = toldBefore(thrown)
  if (before !== undefined) return before
  const { stack, words } = describe(thrown, limits)
  return new Told(words, stack)
}

/**
 * Makes uncaught errors and rejections end the thread through `end`. They would end it anyway. But when Node passes an
 * error to another thread, it drops all fields if one of them cannot be copied, and it drops a value that is not an
 * error entirely.
 */
export const tellCrashes = (end: (thrown: unknown) => never): void => {
  // If the worker's module has added listeners, they decide.
  for (const event of ["unhandledRejection", "uncaughtException"] as const) {
    process.on(event, (thrown: unknown) => {
      if (process.listenerCount(event) === 1) end(thrown)
    })
  }
}
