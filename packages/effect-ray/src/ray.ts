/**
 * The Ray runner, a client of Ray's REST API, and a Ray for development: `effect-ray/ray`.
 */
export * from "@effect-ray/ray"
