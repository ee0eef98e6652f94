/**
 * The front door: what applications and worker modules import. Brokers and runners are subpaths.
 */
export * from "@effect-ray/core"
