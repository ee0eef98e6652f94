/**
 * Delays of timers, in milliseconds.
 *
 * Node's timers count in 32 bits and fire at once when the delay is longer. `Effect.sleep` accepts any delay. Use this for
 * every `setTimeout` whose delay a caller chooses.
 */

/** The longest delay of a timer, 24.8 days. @category constants */
export const maxMillis = 2 ** 31 - 1

/** The delay, or the longest one that a timer takes. @category bounds */
export const bounded = (millis: number): number => Math.min(millis, maxMillis)
