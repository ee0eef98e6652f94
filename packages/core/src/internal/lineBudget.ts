/** Limits how many lines of one kind are logged in a minute. */

export type LineBudget = ReturnType<typeof makeLineBudget>

/** `now`: the process's clock, in milliseconds. */
export const makeLineBudget = (perMinute: number, now: () => number) => {
  let minute = Number.NaN
  let spent = 0
  return {
    /**
     * Call it for each line. `line`: log the line. `rest`: log that the rest of this minute's lines is left out.
     * `none`: log nothing.
     */
    spend: (): "line" | "rest" | "none" => {
      const current = Math.floor(now() / 60_000)
      if (current !== minute) {
        minute = current
        spent = 0
      }
      spent++
      return spent <= perMinute ? "line" : spent === perMinute + 1 ? "rest" : "none"
    }
  }
}
