/**
 * Shares round trips among callers.
 *
 * The first caller's input is sent at once. Inputs that arrive while it is under way are sent together in the next
 * batch. A lone caller therefore never waits, and twenty callers at once need a few statements instead of twenty.
 */
import type { BrokerError } from "@effect-ray/core/BrokerError"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"

interface Entry<In, Out> {
  readonly input: In
  readonly resume: (exit: Exit.Exit<Out, BrokerError>) => void
}

export interface Options<In, Out> {
  /** The most batches under way at once. */
  readonly concurrency: number
  /** The most that a batch may weigh. A single input may weigh more. */
  readonly maxWeight: number
  readonly weigh: (input: In) => number
  /** Inputs with a mark in common are never under way at the same time. */
  readonly marks?: (input: In) => ReadonlyArray<string>
  /** Returns a result for every input, in the order given. If it fails, it fails for all of them. */
  readonly run: (inputs: ReadonlyArray<In>) => Effect.Effect<ReadonlyArray<Exit.Exit<Out, BrokerError>>, BrokerError>
}

/** A function that adds one input to the next batch. Batches run in the scope's own context, outside transactions. */
export const make = <In, Out>(
  options: Options<In, Out>
): Effect.Effect<(input: In) => Effect.Effect<Out, BrokerError>, never, Scope.Scope> =>
  Effect.gen(function*() {
    const runFork = Effect.runForkWith(yield* Effect.context<never>())
    const running = new Set<Fiber.Fiber<void>>()
    const marked = new Set<string>()
    let pending: Array<Entry<In, Out>> = []

    const marksOf = (input: In): ReadonlyArray<string> => options.marks?.(input) ?? []

    const take = (): ReadonlyArray<Entry<In, Out>> => {
      const batch: Array<Entry<In, Out>> = []
      const left: Array<Entry<In, Out>> = []
      let weight = 0
      for (const entry of pending) {
        const own = marksOf(entry.input)
        const heavy = batch.length > 0 && weight + options.weigh(entry.input) > options.maxWeight
        if (heavy || own.some((mark) => marked.has(mark))) {
          left.push(entry)
          continue
        }
        batch.push(entry)
        weight += options.weigh(entry.input)
        for (const mark of own) marked.add(mark)
      }
      pending = left
      return batch
    }

    const pump = () => {
      while (running.size < options.concurrency) {
        const batch = take()
        if (batch.length === 0) return
        const fiber = runFork(
          Effect.exit(Effect.suspend(() => options.run(batch.map((entry) => entry.input)))).pipe(
            Effect.map((exit) => {
              batch.forEach((entry, index) => {
                entry.resume(Exit.isSuccess(exit) ? exit.value[index]! : Exit.failCause(exit.cause))
              })
            })
          )
        )
        running.add(fiber)
        fiber.addObserver(() => {
          running.delete(fiber)
          for (const { input } of batch) for (const mark of marksOf(input)) marked.delete(mark)
          pump()
        })
      }
    }

    // A batch that has begun is finished, even if its callers are gone.
    yield* Effect.addFinalizer(() =>
      Effect.gen(function*() {
        while (running.size > 0) yield* Effect.forEach([...running], Fiber.await, { discard: true })
      })
    )

    return (input: In) =>
      Effect.callback<Out, BrokerError>((resume) => {
        const entry: Entry<In, Out> = { input, resume }
        pending.push(entry)
        pump()
        return Effect.sync(() => {
          pending = pending.filter((other) => other !== entry)
        })
      })
  })
