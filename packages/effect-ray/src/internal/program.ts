/** What the program tells its commands of the process it is, and they tell it. */
import * as Context from "effect/Context"

export interface Program {
  /** Host and process id, for people who look at supervisors. */
  readonly label: string
  /**
   * The exit code after an interruption: 130, as shells have it, and 0 for a worker, which SIGTERM asks to drain.
   */
  interrupted: number
}

export const Program = Context.Reference<Program>("effect-ray/Program", {
  defaultValue: () => ({ label: "effect-ray", interrupted: 130 })
})
