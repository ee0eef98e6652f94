/** Steps at work. */

/** A step whose code runs. */
export interface Step {
  /** The step within which it runs. */
  readonly parent: Step | undefined
}
