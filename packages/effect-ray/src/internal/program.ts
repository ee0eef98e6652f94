/** What the program and its commands tell each other about the process. */
import * as Context from "effect/Context"

export interface Program {
  /** Host name and process id, for people who look at supervisors. */
  readonly label: string
  /**
   * The exit code after an interruption: 130, as in shells, and 0 for a worker, which SIGTERM asks to drain.
   */
  interrupted: number
}

export const Program = Context.Reference<Program>("effect-ray/Program", {
  defaultValue: () => ({ label: "effect-ray", interrupted: 130 })
})
