/**
 * Named bounds and defaults that apply across the system.
 *
 * Those that a deployment may change are `Context.Reference`s: provide another value with `Layer.succeed`, or
 * let `effect-ray worker` set them from its settings.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"

/** The queue of tasks that do not name one. @category constants */
export const defaultQueue = "default"

/** The longest name of a task or a queue, in bytes of UTF-8. Names are parts of indexes. @category constants */
export const maxNameBytes = 400

/** The longest idempotency key, in bytes of UTF-8. @category constants */
export const maxKeyBytes = 1_800

/**
 * The most characters of payload in one enqueue. Postgres does not accept a statement of a gigabyte.
 *
 * @category constants
 */
export const maxEnqueueLength = 256 * 1024 * 1024

/**
 * The largest payload and the largest result that can be stored, in bytes of UTF-8. Both are in one row, and Postgres'
 * client accepts messages of at most 16 MiB. Store larger data elsewhere, and a reference here. @category constants
 */
export const maxCarriedBytes = 7 * 1024 * 1024

/** The most bytes that an envelope adds to a result. @category constants */
export const maxEnvelopeBytes = 1024

/** The most bytes of an execution's tags, as JSON. @category constants */
export const maxTagsBytes = 32 * 1024

/** The longest trace context, in bytes. @category constants */
export const maxTraceparentBytes = 512

/** The limit of one attempt of tasks that do not set one. @category constants */
export const defaultTimeout = Duration.hours(1)

/** The most attempts that one host runs at once. @category constants */
export const maxSlots = 4_096

/** The most hosts of one placement. @category constants */
export const maxHosts = 10_000

/** How long an awaited execution may be due without being served before a warning is logged. @category constants */
export const unservedPatience = Duration.seconds(10)

/** The most attempts of a retry policy that is a bare Schedule. @category constants */
export const maxAttemptsOfSchedule = 1_000

/** The longest delay between attempts of the default retry policy. @category constants */
export const maxDefaultBackoff = Duration.minutes(5)

/** The longest stack or traceback that is stored, including those of its causes, in characters. @category constants */
export const maxStackLength = 16_384

/** The longest message that is stored, in characters. @category constants */
export const maxDetailLength = 2_048

/**
 * Attempts of tasks that do not set a number, stored with the execution. Default 3. Setting: `EFFECT_RAY_MAX_ATTEMPTS`.
 *
 * @category references
 */
export const MaxAttempts = Context.Reference<number>("@effect-ray/core/Limits/MaxAttempts", { defaultValue: () => 3 })

/**
 * The first delay of the default retry policy. Default 1 second. Setting: `EFFECT_RAY_RETRY_BACKOFF`.
 *
 * @category references
 */
export const RetryBackoff = Context.Reference<Duration.Duration>("@effect-ray/core/Limits/RetryBackoff", {
  defaultValue: () => Duration.seconds(1)
})

/**
 * The largest accepted payload, encoded, in bytes; at most `maxCarriedBytes`. Default 2 MiB. Setting:
 * `EFFECT_RAY_MAX_PAYLOAD_BYTES`.
 *
 * @category references
 */
export const MaxPayloadBytes = Context.Reference<number>("@effect-ray/core/Limits/MaxPayloadBytes", {
  defaultValue: () => 2 * 1024 * 1024
})

/** Encoded payloads over this many bytes log a warning. Default 256 KiB. @category references */
export const WarnPayloadBytes = Context.Reference<number>("@effect-ray/core/Limits/WarnPayloadBytes", {
  defaultValue: () => 256 * 1024
})

/**
 * The largest accepted result, encoded, in bytes; at most `maxCarriedBytes`. Default 2 MiB. Setting:
 * `EFFECT_RAY_MAX_RESULT_BYTES`.
 *
 * @category references
 */
export const MaxResultBytes = Context.Reference<number>("@effect-ray/core/Limits/MaxResultBytes", {
  defaultValue: () => 2 * 1024 * 1024
})

/** @internal What is wrong with a size limit, or undefined. */
export const faultOfSize = (name: string, bytes: number): string | undefined =>
  Number.isInteger(bytes) && bytes >= 1 && bytes <= maxCarriedBytes
    ? undefined
    : `${name} is ${bytes}: expected a whole number of bytes from 1 to ${maxCarriedBytes}, which is what one row can carry`

/**
 * What is wrong with `MaxPayloadBytes` or `MaxResultBytes` as they are provided here, or undefined. The command line
 * checks its settings; a program may provide any value.
 *
 * @category checks
 */
export const fault: Effect.Effect<string | undefined> = Effect.gen(function*() {
  return faultOfSize("Limits.MaxPayloadBytes", yield* MaxPayloadBytes)
    ?? faultOfSize("Limits.MaxResultBytes", yield* MaxResultBytes)
})

/** Whether a number is a priority: 0 to 9, 9 first. @category guards */
export const isPriority = (n: number): boolean => Number.isInteger(n) && n >= 0 && n <= 9
