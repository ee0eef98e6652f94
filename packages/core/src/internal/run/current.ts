/** What the code of a run finds in its context. */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as WebCrypto from "effect/crypto/WebCrypto"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Scheduler from "effect/Scheduler"
import type { Resident } from "./resident.ts"
import type { Step } from "./step.ts"

export interface Current {
  readonly resident: Resident
  /** The step whose code this is, which a replay does not run again. Undefined in the body itself. */
  readonly step: Step | undefined
}

/**
 * Waits for something that others record. A step that waits is not at work: its run may wait with it, and leave memory. Then
 * the step runs again.
 */
export const waitFor = <A>({ resident, step }: Current, wait: Effect.Effect<A>): Effect.Effect<A> =>
  step === undefined ? wait : Effect.acquireUseRelease(
    Effect.sync(() => resident.stepWaits(step, 1)),
    () => wait,
    () => Effect.sync(() => resident.stepWaits(step, -1))
  )

/** The run whose code this is. Undefined outside of runs. */
export const Current = Context.Reference<Current | undefined>("@effect-ray/core/internal/run/Current", {
  defaultValue: () => undefined
})

/** Where an entry comes from: a replay does not ask again for what a step has asked for. */
export const sourceOf = ({ step }: Current): "run" | "outside" => step === undefined ? "run" : "outside"

/**
 * The context of a run's code. Its clock shows the time of what it was told last, and its sleeps are in the journal; its
 * random numbers depend on its id. So a replay sees the same of both.
 */
export const ofRun = (resident: Resident, outer: Context.Context<never>): Context.Context<never> =>
  outer.pipe(
    Context.add(Current, { resident, step: undefined }),
    Context.add(Scheduler.Scheduler, resident.scheduler),
    Context.add(Clock.Clock, durableClock(resident, Context.get(outer, Clock.Clock))),
    Context.add(Random.Random, seededRandom(resident.id)),
    Context.add(WebCrypto.WebCrypto, countedCrypto(resident, Context.get(outer, WebCrypto.WebCrypto)))
  )

/** The context of a step's code, with the process's own clock, random numbers and scheduler. */
export const ofStep = ({ resident, step: parent }: Current, outer: Context.Context<never>) => {
  const own = Context.make(Scheduler.Scheduler, Context.get(outer, Scheduler.Scheduler)).pipe(
    Context.add(Clock.Clock, Context.get(outer, Clock.Clock)),
    Context.add(Random.Random, Context.get(outer, Random.Random)),
    Context.add(Current, { resident, step: { parent } })
  ) as Context.Context<never>
  return <R>(context: Context.Context<R>): Context.Context<R> => Context.merge(context, own)
}

const durableClock = (resident: Resident, outer: Clock.Clock): Clock.Clock => ({
  currentTimeMillisUnsafe: resident.lastMillis,
  currentTimeMillis: Effect.sync(resident.lastMillis),
  // Spans are measured by these, in real time.
  currentTimeNanosUnsafe: () => outer.currentTimeNanosUnsafe(),
  currentTimeNanos: outer.currentTimeNanos,
  monotonicTimeNanosUnsafe: () => outer.monotonicTimeNanosUnsafe(),
  monotonicTimeNanos: outer.monotonicTimeNanos,
  sleep: (duration: Duration.Duration) => {
    const millis = Duration.toMillis(duration)
    if (millis <= 0) return Effect.yieldNow
    if (!Number.isFinite(millis)) return Effect.never
    // Sleeps of equal length are interchangeable, so they need no other names.
    const name = `${millis}ms/${resident.count(`sleep:${millis}`)}`
    const until = resident.once(
      `sleep:${name}`,
      "run",
      resident.owned,
      Effect.sync(() => String(resident.now() + millis))
    )
    return Effect.flatMap(until, (until) => {
      if (until === undefined) return outer.sleep(duration)
      const key = `wake:${name}`
      resident.setAlarm(key, Number(until.value), "null")
      return Effect.onExit(
        Effect.flatMap(resident.ask(key), (woken) => woken === undefined ? outer.sleep(duration) : Effect.void),
        () => Effect.sync(() => resident.clearAlarm(key))
      )
    })
  }
})

type Crypto = typeof WebCrypto.WebCrypto.Service
type SubtleCrypto = Crypto["subtle"]

/** Hashes of ids are computed outside of the run's fibers, and the run must know that they are. */
const countedCrypto = (resident: Resident, outer: Crypto): Crypto => {
  const subtle: SubtleCrypto = new Proxy(outer.subtle, {
    get: (target, property) => {
      if (property !== "digest") return bound(target, property)
      return async (...args: Parameters<SubtleCrypto["digest"]>) => {
        const end = resident.waitOutside()
        try {
          return await target.digest(...args)
        } finally {
          end()
        }
      }
    }
  })
  return new Proxy(outer, { get: (target, property) => property === "subtle" ? subtle : bound(target, property) })
}

/** Methods of these objects accept no other `this`. */
const bound = <T extends object>(target: T, property: PropertyKey): unknown => {
  const value = Reflect.get(target, property) as unknown
  return typeof value === "function" ? value.bind(target) as unknown : value
}

/** Made when it is used first, because that takes longer than all else that a short run does. */
const seededRandom = (seed: string): typeof Random.Random.Service => {
  let made: typeof Random.Random.Service | undefined
  const random = () => made ??= Effect.runSync(Random.withSeed(Effect.service(Random.Random), seed))
  return {
    nextIntUnsafe: () => random().nextIntUnsafe(),
    nextDoubleUnsafe: () => random().nextDoubleUnsafe()
  }
}
