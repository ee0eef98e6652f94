/**
 * What the demo prints while it works: on a terminal one line that is overwritten, elsewhere plain lines.
 */
import { Context, Effect, Layer } from "effect"
import { printable } from "./table.ts"

/** Without a terminal, a line is written at most once for this many changes. */
const changesPerPlainLine = 12

/** @category services */
export class Progress extends Context.Service<Progress, {
  /** A step is finished: prints a line that stays. */
  readonly step: (text: string) => Effect.Effect<void>
  /** What is going on: overwritten by the next update. */
  readonly update: (text: string) => Effect.Effect<void>
}>()("@effect-ray-examples/demo/Progress") {}

interface Output {
  readonly isTTY?: boolean
  readonly columns?: number
  write(text: string): unknown
}

export const layer = (output: Output): Layer.Layer<Progress> =>
  Layer.sync(Progress, () => {
    const live = output.isTTY === true
    const started = performance.now()
    let changes = 0
    const at = () => `${((performance.now() - started) / 1000).toFixed(1).padStart(5)} s  `
    return {
      step: (text) =>
        Effect.sync(() => {
          changes = 0
          output.write(`${live ? "\r\u001b[K" : ""}${at()}${printable(text)}\n`)
        }),
      update: (text) =>
        Effect.sync(() => {
          const line = at() + printable(text)
          if (live) output.write(`\r\u001b[K${line.slice(0, (output.columns ?? 80) - 1)}`)
          else if (changes++ % changesPerPlainLine === 0) output.write(`${line}\n`)
        })
    }
  })
