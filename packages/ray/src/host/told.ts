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

const isTold = (thrown: unknown): thrown is Error => {
  try {
    return thrown instanceof Error && thrown.name === "Told" && typeof thrown.message === "string"
  } catch {
    return false
  }
}

/** In words, unless it has been told already, be it in another thread. */
export const toldOf = (thrown: unknown): Told => {
  // The name is all of it that crosses threads, and anyone may give it to an error.
  if (isTold(thrown)) {
    const { message, stack } = thrown
    return new Told(message.slice(0, limits.maxDetailLength), stack?.slice(0, limits.maxStackLength))
  }
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
