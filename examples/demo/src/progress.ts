/**
 * What the demo says while it works: one line that is written over on a terminal, plain lines elsewhere.
 */
import { Context, Effect, Layer } from "effect"
import { printable } from "./table.ts"

/** Elsewhere than on a terminal a line is written at the most for every so many changes. */
const changesPerPlainLine = 12

/** @category services */
export class Progress extends Context.Service<Progress, {
  /** A step is over: a line that stays. */
  readonly step: (text: string) => Effect.Effect<void>
  /** What is going on: written over by the next. */
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
