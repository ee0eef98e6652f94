/**
 * The handlers. Each is a layer, which needs the services that the handler needs.
 */
import { Effect, Layer } from "effect"
import { Handler } from "effect-ray"
import { Add, CpuIntensive, Echo, Failing, Multiply, Refused, Slow } from "./tasks.ts"

export const AddLive = Add.toLayer(({ a, b }) => Effect.succeed(a + b))

export const MultiplyLive = Multiply.toLayer(({ a, b }) => Effect.succeed(a * b))

export const SlowLive = Slow.toLayer(
  Effect.fn("Slow")(function*({ seconds }) {
    yield* Effect.sleep(`${seconds} seconds`)
    return { slept: seconds }
  })
)

export const FailingLive = Failing.toLayer(
  Effect.fn("Failing")(function*({ failures, why }) {
    const { attempt } = yield* Handler.Attempt
    if (attempt <= failures) return yield* new Refused({ why, attempt })
    return attempt
  })
)

export const EchoLive = Echo.toLayer(({ value }) => Effect.succeed(value))

export const CpuIntensiveLive = CpuIntensive.toLayer(
  Effect.fn("CpuIntensive")(function*({ limit }) {
    let primes = 0
    for (let from = 0; from < limit; from += slice) {
      primes += countPrimes(from, Math.min(from + slice, limit))
      // Between slices, others get their turn, and a cancellation or the timeout can stop the attempt.
      yield* Effect.yieldNow
    }
    return { primes }
  })
)

/** How many numbers are checked without a pause: a few milliseconds of work. */
const slice = 20_000

const isPrime = (n: number): boolean => {
  if (n < 4) return n > 1
  if (n % 2 === 0) return false
  for (let divisor = 3; divisor * divisor <= n; divisor += 2) if (n % divisor === 0) return false
  return true
}

/** The primes from `from` (included) to `to` (excluded). */
const countPrimes = (from: number, to: number): number => {
  let primes = 0
  for (let n = from; n < to; n++) if (isPrime(n)) primes++
  return primes
}

export const HandlersLive = Layer.mergeAll(AddLive, MultiplyLive, SlowLive, FailingLive, EchoLive, CpuIntensiveLive)
