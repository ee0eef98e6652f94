/** The code of a run is not the code that wrote its history. */

export interface Mismatch {
  /** The position in the history, from 0. */
  readonly position: number
  /** The key that the history holds there. */
  readonly recorded: string
  /** The keys for which the code asks. */
  readonly asked: ReadonlyArray<string>
}

/** What is wrong, for people. */
export const describe = ({ asked, position, recorded }: Mismatch): string => {
  const wanted = asked.length === 0 ? "nothing" : asked.map((key) => `"${key}"`).join(", ")
  return `position ${position} of its history holds "${recorded}", but the code asks for ${wanted}: `
    + "the code is not the code that wrote the history"
}
