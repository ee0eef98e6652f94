/**
 * Bounds and defaults that hold across the system, each with a name.
 *
 * Those that a deployment may change are `Context.Reference`s: provide another value by `Layer.succeed`, or
 * let `effect-ray worker` set them from its settings.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"

/** The queue of tasks that name none. @category constants */
export const defaultQueue = "default"

/** The longest name of a task or a queue, in bytes of UTF-8: names are parts of indexes. @category constants */
export const maxNameBytes = 400

/** The longest idempotency key, in bytes of UTF-8. @category constants */
export const maxKeyBytes = 1_800

/** The most characters of payload in one enqueue: Postgres takes no statement of a gigabyte. @category constants */
export const maxEnqueueLength = 256 * 1024 * 1024

/**
 * The largest payload and the largest result that can be stored, in bytes of UTF-8. Both lie in one row, and Postgres' client
 * takes a message of 16 MiB. What is larger belongs elsewhere, with a reference in its place. @category constants
 */
export const maxCarriedBytes = 7 * 1024 * 1024

/** The most bytes that an envelope adds to a result: the stored form has both. @category constants */
export const maxEnvelopeBytes = 1024

/** The most bytes of tags that one execution has, as JSON. @category constants */
export const maxTagsBytes = 32 * 1024

/** The longest trace context, in bytes. @category constants */
export const maxTraceparentBytes = 512

/** The limit of one attempt of tasks that state none. @category constants */
export const defaultTimeout = Duration.hours(1)

/** The most attempts that one host runs at once. @category constants */
export const maxSlots = 4_096

/** The most hosts of one placement. @category constants */
export const maxHosts = 10_000

/** How long an awaited execution may be due and not be served, before the log says so. @category constants */
export const unservedPatience = Duration.seconds(10)

/** What a bare Schedule as retry policy is bounded by. @category constants */
export const maxAttemptsOfSchedule = 1_000

/** The longest delay between attempts of the default retry policy. @category constants */
export const maxDefaultBackoff = Duration.minutes(5)

/** The longest stack or traceback that is stored, with those of its causes, in characters. @category constants */
export const maxStackLength = 16_384

/** The longest message that is stored, in characters. @category constants */
export const maxDetailLength = 2_048

/** Attempts of tasks that state none, stored with the execution. Setting: `EFFECT_RAY_MAX_ATTEMPTS`. @category references */
export const MaxAttempts = Context.Reference<number>("@effect-ray/core/Limits/MaxAttempts", { defaultValue: () => 3 })

/** The first delay of the default retry policy. Setting: `EFFECT_RAY_RETRY_BACKOFF`. @category references */
export const RetryBackoff = Context.Reference<Duration.Duration>("@effect-ray/core/Limits/RetryBackoff", {
  defaultValue: () => Duration.seconds(1)
})

/**
 * Encoded payloads over this many bytes are refused; at most `maxCarriedBytes`. Setting: `EFFECT_RAY_MAX_PAYLOAD_BYTES`.
 *
 * @category references
 */
export const MaxPayloadBytes = Context.Reference<number>("@effect-ray/core/Limits/MaxPayloadBytes", {
  defaultValue: () => 2 * 1024 * 1024
})

/** Encoded payloads over this many bytes are worth a warning. @category references */
export const WarnPayloadBytes = Context.Reference<number>("@effect-ray/core/Limits/WarnPayloadBytes", {
  defaultValue: () => 256 * 1024
})

/**
 * Encoded results over this many bytes are refused; at most `maxCarriedBytes`. Setting: `EFFECT_RAY_MAX_RESULT_BYTES`.
 *
 * @category references
 */
export const MaxResultBytes = Context.Reference<number>("@effect-ray/core/Limits/MaxResultBytes", {
  defaultValue: () => 2 * 1024 * 1024
})

/** @internal What is wrong with a limit on the size of what is stored, if anything is. */
export const faultOfSize = (name: string, bytes: number): string | undefined =>
  Number.isInteger(bytes) && bytes >= 1 && bytes <= maxCarriedBytes
    ? undefined
    : `${name} is ${bytes}: expected a whole number of bytes from 1 to ${maxCarriedBytes}, which is what one row can carry`

/**
 * What is wrong with `MaxPayloadBytes` or `MaxResultBytes` as they are provided here, if anything is. The settings of the
 * command line have been checked; a reference that a program provides has not.
 *
 * @category checks
 */
export const fault: Effect.Effect<string | undefined> = Effect.gen(function*() {
  return faultOfSize("Limits.MaxPayloadBytes", yield* MaxPayloadBytes)
    ?? faultOfSize("Limits.MaxResultBytes", yield* MaxResultBytes)
})

/** Whether a number is a priority: 0 to 9, 9 first. @category guards */
export const isPriority = (n: number): boolean => Number.isInteger(n) && n >= 0 && n <= 9
