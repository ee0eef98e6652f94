/**
 * Delays of timers, in milliseconds.
 *
 * A timer of Node's counts in 32 bits: with a longer delay it is over at once. `Effect.sleep` takes any; a `setTimeout` whose delay
 * somebody else chose takes it from here.
 */

/** The longest delay that a timer takes, 24.8 days. @category constants */
export const maxMillis = 2 ** 31 - 1

/** The delay, or the longest one that a timer takes. @category bounds */
export const bounded = (millis: number): number => Math.min(millis, maxMillis)
