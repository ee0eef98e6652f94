/** Short words for tests of the Postgres broker. */
import { type Broker, defaultPriority, type NewExecution } from "@effect-ray/core/Broker"
import * as Envelope from "@effect-ray/core/Envelope"
import { Outcome } from "@effect-ray/core/Outcome"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert } from "@effect/vitest"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { tickAndKeepUp } from "../../core/test/brokerSuite/kit.ts"
import { TestSchema } from "./TestPostgres.ts"

export const uuid = (): string => SecureRandom.uuidV7Unsafe()

/** A queue and a task that no other test has. */
export const makeLane = () => ({ queue: `queue-${uuid()}`, task: `Task-${uuid()}` })

export const execution = (overrides?: Partial<NewExecution>): NewExecution => ({
  id: uuid(),
  task: "Task",
  queue: "queue",
  priority: defaultPriority,
  payload: "{}",
  format: Envelope.format,
  due: { _tag: "Now" },
  maxAttempts: 3,
  timeout: Duration.minutes(10),
  startBy: Option.none(),
  idempotencyKey: Option.none(),
  atMostOnce: false,
  tags: {},
  traceparent: Option.none(),
  ...overrides
})

export const key = (key: string): Pick<NewExecution, "idempotencyKey"> => ({
  idempotencyKey: Option.some({ key, timeToLive: Option.none() })
})

export const succeeded = Outcome.Succeeded({ result: Envelope.success("42") })

/** Registers a supervisor with this broker. */
export const hire = (
  broker: Broker["Service"],
  lanes: ReadonlyArray<{ readonly queue: string; readonly task: string }>,
  lease: Duration.Duration = Duration.minutes(10)
) =>
  Effect.gen(function*() {
    const supervisor = uuid()
    yield* broker.register({ supervisor, label: "test", lanes, lease })
    return {
      supervisor,
      claim: (limit = 10) => broker.claim({ supervisor, lanes, limit }),
      tick: tickAndKeepUp(broker, { supervisor, lanes, lease }),
      succeed: (claimed: ReadonlyArray<{ readonly id: string; readonly fence: number }>) =>
        broker.settle(
          supervisor,
          claimed.map(({ fence, id }) => ({ id, fence, outcome: succeeded, place: Option.none() }))
        )
    }
  })

/** The client, and the suite's schema for a template. */
export const database = Effect.gen(function*() {
  const sql = yield* PgClient.PgClient
  return { sql, s: sql.literal((yield* TestSchema).name) }
})

/** Polls until the condition holds. */
export const eventually = <E, R>(what: string, condition: Effect.Effect<boolean, E, R>): Effect.Effect<void, E, R> =>
  Effect.gen(function*() {
    for (let tries = 0; tries < 1_000; tries++) {
      if (yield* condition) return
      yield* Effect.sleep("10 millis")
    }
    assert.fail(`never happened: ${what}`)
  })
