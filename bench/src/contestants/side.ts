import type * as Effect from "effect/Effect"
import type { Child } from "./child.ts"

/** A queue system as an application sees it. Its worker is the module, run in a separate process. */
export interface Side {
  readonly name: string
  /** Relative to this folder. */
  readonly module: string
  readonly enqueueOne: Effect.Effect<unknown, Error>
  readonly enqueueMany: (executions: number) => Effect.Effect<unknown, Error>
}

/** A side with its worker's process. */
export interface Contestant {
  readonly side: Side
  readonly child: Child
}
