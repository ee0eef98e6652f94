/**
 * What applications and worker modules import. Brokers and runners have subpaths of their own.
 */
export * from "@effect-ray/core"
