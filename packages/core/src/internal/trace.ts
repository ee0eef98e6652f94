/** Reads and writes W3C trace context. Source of the format: https://www.w3.org/TR/trace-context/ */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"

/** The `traceparent` of a span. */
export const toTraceparent = (span: Tracer.AnySpan): string =>
  `00-${span.traceId.padStart(32, "0")}-${span.spanId}-${span.sampled ? "01" : "00"}`

/** The `traceparent` of the current span, if there is one. */
export const currentTraceparent: Effect.Effect<Option.Option<string>> = Effect.map(
  Effect.serviceOption(Tracer.ParentSpan),
  Option.map(toTraceparent)
)

const pattern = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/

/** The span that a `traceparent` names. An invalid text gives no parent, never an error. */
export const fromTraceparent = (traceparent: string): Option.Option<Tracer.ExternalSpan> => {
  const match = pattern.exec(traceparent)
  if (match === null) return Option.none()
  return Option.some(Tracer.externalSpan({
    traceId: match[1]!,
    spanId: match[2]!,
    sampled: (Number.parseInt(match[3]!, 16) & 1) === 1
  }))
}

/** Whether spans made in this context are collected. */
export const isTraced = (context: Context.Context<never>): boolean =>
  Context.getOrUndefined(context, Tracer.Tracer) !== undefined

/**
 * Runs work in a span whose parent is in another process; without a parent, runs it as it is. Where no tracer is
 * installed, the span only carries the trace, because only the work itself can see it.
 */
export const continueTrace = <A, E, R>(
  work: Effect.Effect<A, E, R>,
  name: string,
  traceparent: Option.Option<string>,
  attributes: Record<string, unknown>
): Effect.Effect<A, E, R> => {
  const parent = Option.flatMap(traceparent, fromTraceparent)
  if (Option.isNone(parent)) return work
  return Effect.contextWith((context: Context.Context<never>) =>
    isTraced(context)
      ? Effect.withSpan(work, name, { parent: parent.value, kind: "consumer", attributes, captureStackTrace: false })
      : Effect.provideService(work, Tracer.ParentSpan, uncollected(name, parent.value))
  ) as Effect.Effect<A, E, R>
}

const uncollected = (name: string, parent: Tracer.AnySpan): Tracer.Span =>
  new Tracer.NativeSpan({
    name,
    parent: Option.some(parent),
    annotations: Context.empty(),
    links: [],
    startTime: 0n,
    kind: "consumer",
    sampled: parent.sampled
  })
