/** A figure over time, and how fast it grows. */

export interface Series {
  readonly times: Array<number>
  readonly values: Array<number>
}

export const make = (): Series => ({ times: [], values: [] })

/** `time` in hours. */
export const add = (series: Series, time: number, value: number): void => {
  series.times.push(time)
  series.values.push(value)
}

/**
 * Growth per hour: the median slope over all pairs of points (Theil, "A rank-invariant method of linear and polynomial
 * regression analysis", 1950; Sen 1968), which single peaks do not affect. Leaves out the first third of the time, in
 * which processes warm up.
 */
export const growth = ({ times, values }: Series): number => {
  const first = Math.floor(times.length / 3)
  const slopes: Array<number> = []
  for (let a = first; a < times.length; a++) {
    for (let b = a + 1; b < times.length; b++) slopes.push((values[b]! - values[a]!) / (times[b]! - times[a]!))
  }
  slopes.sort((a, b) => a - b)
  return slopes[Math.floor(slopes.length / 2)] ?? 0
}
