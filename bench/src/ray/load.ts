/** The same load for us and for the peer. */

/** Calls of the latency rows, one at a time. */
export const latencyCalls = 2_000

/** Calls in flight at any time in the throughput rows. */
export const inFlight = 500
