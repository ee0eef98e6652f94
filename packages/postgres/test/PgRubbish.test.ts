/** Rows that nobody enqueued: what cannot be is refused, and whatever else is written by hand stops nobody else's work. */
import { InProcessRunner, Limits, Supervisor, Task, Worker } from "@effect-ray/core"
import { Broker } from "@effect-ray/core/Broker"
import * as Endings from "@effect-ray/core/Endings"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as SqlError from "effect/sql/SqlError"
import { laneId } from "../src/internal/lanes.ts"
import { sqlState } from "../src/internal/sqlFailure.ts"
import { database, eventually, execution, hire, makeLane, uuid } from "./kit.ts"
import * as TestPostgres from "./TestPostgres.ts"

class Double extends Task.make("Double", {
  payload: { n: Schema.Int },
  success: Schema.Int,
  retry: { attempts: 1 },
  queue: "rubbish"
}) {}

const lane = { queue: Double.options.queue, task: Double._tag }

const worker = Worker.make({ tasks: [Double], handlers: Double.toLayer(({ n }) => Effect.succeed(2 * n)) })

/** A worker that serves until the test ends. */
const serving = (lease: "1 second" | "30 seconds" = "30 seconds") =>
  Effect.forkScoped(
    Supervisor.run({ worker, concurrency: 10, lease }).pipe(Effect.provide(InProcessRunner.layer(worker)))
  )

/** A row of executions that could have been enqueued, as SQL; columns given replace its own. */
const row = (columns: Readonly<Record<string, string>> = {}) => {
  const all: Record<string, string> = {
    id: `'${uuid()}'`,
    lane: String(laneId(lane)),
    run_at: "now()",
    enqueued_at: "now()",
    timeout_millis: "60000",
    priority: "5",
    max_attempts: "1",
    format: "1",
    at_most_once: "false",
    queue: `'${lane.queue}'`,
    task: `'${lane.task}'`,
    payload: `'{"n":1}'`,
    ...columns
  }
  return { id: all.id!.slice(1, -1), names: Object.keys(all).join(", "), values: Object.values(all).join(", ") }
}

const put = Effect.fnUntraced(function*(table: string, names: string, values: string) {
  const { name } = yield* TestPostgres.TestSchema
  const sql = yield* PgClient.PgClient
  yield* sql.unsafe(`INSERT INTO "${name}".${table} (${names}) VALUES (${values})`).unprepared
})

const putRow = Effect.fnUntraced(function*(columns?: Readonly<Record<string, string>>) {
  const { id, names, values } = row(columns)
  yield* put("executions", names, values)
  return id
})

const held = { state: "'running'", owner: `'${uuid()}'`, claimed_at: "now()" }

const refusedRows: ReadonlyArray<readonly [what: string, columns: Readonly<Record<string, string>>]> = [
  ["a timeout that is no number", { timeout_millis: "'NaN'" }],
  ["a timeout beyond all times", { timeout_millis: "1e300" }],
  ["a timeout without end", { timeout_millis: "'Infinity'" }],
  ["no timeout", { timeout_millis: "0" }],
  ["a fence that a number cannot hold", { fence: "9007199254740992" }],
  ["a fence below zero", { fence: "-1" }],
  ["attempts below zero", { attempts: "-1" }],
  ["attempts at the end of an integer", { attempts: "2147483647" }],
  ["losses at the end of an integer", { losses: "2147483647" }],
  ["no attempts at all", { max_attempts: "0" }],
  ["format 0", { format: "0" }],
  ["priority 10", { priority: "10" }],
  ["priority -1", { priority: "-1" }],
  ["a due time without end", { run_at: "'infinity'" }],
  ["a due time before all others", { run_at: "'-infinity'" }],
  ["a due time before Christ", { run_at: "'4000-01-01 BC'" }],
  ["a time that JavaScript has not", { enqueued_at: "'290000-01-01'" }],
  ["a startBy without end", { start_by: "'infinity'" }],
  ["a claim without a time", { ...held, claimed_at: "NULL" }],
  ["a claim at the end of time", { ...held, claimed_at: "'infinity'" }],
  ["an owner while queued", { owner: held.owner, claimed_at: "now()" }],
  ["an empty name of a queue", { queue: "''" }],
  ["a name of a task without end", { task: "repeat('t', 1000000)" }],
  ["a payload that no message carries", { payload: "repeat('x', 17 * 1024 * 1024)" }],
  ["half of what one message carries, and more", { payload: "repeat('x', 9 * 1024 * 1024)" }],
  ["tags that are a list", { tags: "'[1, 2]'" }],
  ["tags of a megabyte", { tags: "jsonb_build_object('a', repeat('x', 1000000))" }],
  ["a key of a megabyte", { key: "repeat('k', 1000000)" }],
  ["a trace context of a megabyte", { traceparent: "repeat('0', 1000000)" }],
  ["a retention class without partitions", { retention: "'for ever'" }],
  ["a kind that nobody knows", { kind: "'spell'" }],
  ["a reason of a megabyte", { held: "repeat('h', 1000000)" }],
  ["a state that is over", { state: "'succeeded'" }]
]

const refusedElsewhere: ReadonlyArray<readonly [what: string, table: string, names: string, values: string]> = [
  ["a lease that is no number", "supervisors", supervisorNames(), supervisorValues({ lease: "'NaN'" })],
  ["a lease beyond all times", "supervisors", supervisorNames(), supervisorValues({ lease: "1e300" })],
  ["a lease below zero", "supervisors", supervisorNames(), supervisorValues({ lease: "-1" })],
  ["a lease that never ends", "supervisors", supervisorNames(), supervisorValues({ expires: "'infinity'" })],
  ["a label without end", "supervisors", supervisorNames(), supervisorValues({ label: "repeat('l', 1000000)" })],
  ["a process that is no channel", "waiters", "execution_id, process", `'${uuid()}', repeat('p', 10000)`],
  ["a process that is no channel", "supervisors", `${supervisorNames()}, process`, `${supervisorValues({})}, 'p'`],
  ["nothing that waits", "waiters", "execution_id", `'${uuid()}'`],
  ["two that wait in one row", "waiters", "execution_id, process, run", `'${uuid()}', '0123456789abcdef', '${uuid()}'`],
  ["a message at the end of time", "inbox", "run, at, key, value", `'${uuid()}', 'infinity', 'a', 'b'`],
  [
    "a message with a key of a megabyte",
    "inbox",
    "run, at, key, value",
    `'${uuid()}', now(), repeat('k', 1000000), 'b'`
  ],
  [
    "a message that no message carries",
    "inbox",
    "run, at, key, value",
    `'${uuid()}', now(), 'a', repeat('x', 8 * 1024 * 1024)`
  ],
  ["a wake of nothing", "wakes", "run", "NULL"],
  [
    "an entry before all others",
    "journal",
    "run, seq, at, outside, key, value",
    `'${uuid()}', 0, '-infinity', false, 'a', 'b'`
  ],
  [
    "an entry that no message carries",
    "journal",
    "run, seq, at, outside, key, value",
    `'${uuid()}', 0, now(), false, 'a', repeat('x', 8 * 1024 * 1024)`
  ],
  ["a lane without a name", "lanes", "id, queue, task, created_at", "1, '', 't', now()"],
  [
    "an attempt at the end of time",
    "attempts",
    "execution_id, fence, attempt, outcome, supervisor, settled, confirmed, claimed_at, ended_at",
    `'${uuid()}', 1, 1, 'retry', '${uuid()}', true, true, now(), 'infinity'`
  ],
  [
    "an end before all others",
    "history",
    "id, ended_at, enqueued_at, run_at, lane, fence, timeout_millis, attempts, losses, max_attempts, format, priority, "
    + "at_most_once, settled, confirmed, kind, state, retention, queue, task, payload, result",
    `'${uuid()}', '-infinity', now(), now(), 1, 1, 1, 1, 0, 1, 1, 5, false, true, true, 'task', 'failed', 'default', 'q', `
    + "'t', '{}', '{}'"
  ],
  [
    "a gateway at the end of integers",
    "gateways",
    "deployment, cluster, epoch, submission_id, protocol, secret, opened_at",
    "'d', 'c', 2147483647, 's', 1, 's', now()"
  ]
]

function supervisorNames() {
  return "id, label, lanes, registered_at, lease_millis, expires_at"
}

function supervisorValues(given: { readonly lease?: string; readonly expires?: string; readonly label?: string }) {
  return `'${uuid()}', ${given.label ?? "'by hand'"}, '{}', now(), ${given.lease ?? "1000"}, ${
    given.expires ?? "now()"
  }`
}

/** What can be written, and how it ends. */
const admitted: ReadonlyArray<
  readonly [what: string, columns: Readonly<Record<string, string>>, state: string]
> = [
  ["a payload that is no JSON", { payload: "'{'" }, "failed"],
  ["no payload", { payload: "''" }, "failed"],
  ["a payload of another Schema", { payload: `'{"n":"one"}'` }, "failed"],
  ["a payload over the worker's limit", { payload: `'{"n":1,"x":"' || repeat('x', 3000000) || '"}'` }, "failed"],
  ["__proto__ as a payload", { payload: `'{"n":1,"__proto__":{"n":2}}'` }, "succeeded"],
  ["a format that this version does not know", { format: "999" }, "failed"],
  ["a task that this worker has not", { task: "'Nobody'" }, "failed"],
  ["another queue than its lane's", { queue: "'nowhere'" }, "succeeded"],
  ["the last fence there is", { fence: "9007199254740991" }, "failed"],
  ["more attempts than it may have", { attempts: "1000000000", max_attempts: "1" }, "succeeded"],
  ["a suspect of a billion losses", { losses: "1000000000" }, "succeeded"],
  ["a due time in the year 1", { run_at: "'0001-01-01 00:00:00+00'" }, "succeeded"],
  ["a startBy of long ago", { start_by: "'0001-01-01 00:00:00+00'" }, "expired"],
  ["a timeout of an instant", { timeout_millis: "1e-300" }, "either"],
  ["the longest timeout", { timeout_millis: "3.2e15" }, "succeeded"],
  ["a trace context of nothing", { traceparent: "'00-zz'" }, "succeeded"],
  ["tags within tags", { tags: `'{"a":{"b":[null]}}'` }, "succeeded"],
  ["SQL in every text", { traceparent: `'''); DROP TABLE x; --'`, key: `'''); DROP TABLE x; --'` }, "succeeded"],
  ["an owner who is nobody", { ...held, owner: `'${uuid()}'` }, "succeeded"],
  ["an owner who is nobody, wanted cancelled", { ...held, state: "'cancelling'", owner: `'${uuid()}'` }, "cancelled"],
  ["at most once under an owner who is nobody", { ...held, at_most_once: "true", owner: `'${uuid()}'` }, "lost"]
]

for (const version of TestPostgres.versions) {
  layer(TestPostgres.layer(version), { excludeTestServices: true })(
    `Rows written by hand, on Postgres ${version}`,
    (it) => {
      it.effect.each(refusedRows)("are refused with %s", ([, columns]) =>
        Effect.gen(function*() {
          const error = yield* Effect.flip(putRow(columns))
          assert.match(sqlState(error as SqlError.SqlError)!, /^(22|23|54)/)
        }))

      it.effect.each(refusedElsewhere)("are refused with %s", ([, table, names, values]) =>
        Effect.gen(function*() {
          const error = yield* Effect.flip(put(table, names, values))
          assert.match(sqlState(error as SqlError.SqlError)!, /^(22|23|54)/)
        }))

      it.effect("stop nobody else's, and end as what they are", () =>
        Effect.gen(function*() {
          const broker = yield* Broker
          const { s, sql } = yield* database
          const ids: Array<string> = []
          for (const [, columns] of admitted) ids.push(yield* putRow(columns))
          // Beside them: a supervisor that lapsed long ago, one without lanes, keys of nobody, lanes that are others'.
          for (const expires of ["'0001-01-01 00:00:00+00'", "now() + interval '1 minute'"]) {
            yield* put("supervisors", supervisorNames(), supervisorValues({ expires }))
          }
          yield* sql`
          INSERT INTO ${s}.keys (scope, key, execution_id, payload_digest, expires_at) VALUES
            (${lane.task}, 'a', ${uuid()}, ${uuid()}, 'infinity'), (${lane.task}, 'b', ${uuid()}, ${uuid()}, '-infinity')
        `
          yield* sql`INSERT INTO ${s}.lanes (id, queue, task, created_at) VALUES (${
            laneId(lane)
          }, 'x', 'y', 'infinity')`
          yield* sql`INSERT INTO ${s}.retention_classes (name, keep) VALUES ('aa', interval '1 day')`

          yield* serving()
          const good = yield* Task.enqueueAll(Double, Array.from({ length: 50 }, (_, n) => ({ n })))
          const results = yield* Effect.forEach(good, (execution) => execution.await, { concurrency: "unbounded" })
          assert.deepStrictEqual(results, good.map((_, n) => 2 * n))
          for (const [index, [what, , state]] of admitted.entries()) {
            const read = Effect.map(broker.read(ids[index]!), Option.getOrThrow)
            yield* eventually(`the end of ${what}`, Effect.map(read, ({ result }) => Option.isSome(result)))
            if (state !== "either") assert.strictEqual((yield* read).state, state, what)
          }
          const after = yield* Task.enqueue(Double, { n: 21 }, { idempotencyKey: "b" })
          assert.strictEqual(yield* after.await, 42)
          yield* sql`DELETE FROM ${s}.retention_classes WHERE name = 'aa'`
        }))

      it.effect("of a supervisor that are deleted give its executions to others", () =>
        Effect.gen(function*() {
          const broker = yield* Broker
          const { s, sql } = yield* database
          const own = makeLane()
          const [given] = yield* broker.enqueue([execution(own)])
          const first = yield* hire(broker, [own])
          assert.lengthOf(yield* first.claim(), 1)
          yield* sql`DELETE FROM ${s}.supervisors WHERE id = ${first.supervisor}`
          const second = yield* hire(broker, [own])
          assert.isFalse((yield* first.tick).alive)
          yield* broker.duties.find(({ name }) => name === "reap orphans")!.perform
          assert.deepStrictEqual((yield* second.claim()).map(({ id }) => id), [given!.id])
        }))
    }
  )

  // The bounds of columns taken away, as if somebody had thought of one that is missing.
  const unbounded = Layer.effectDiscard(Effect.gen(function*() {
    const { name } = yield* TestPostgres.TestSchema
    const sql = yield* PgClient.PgClient
    const constraints = {
      timeout: "timeout_in_range",
      fence: "fence_in_range",
      moment: "moment_in_range",
      payload: "payload_can_be_carried",
      result: "result_can_be_carried"
    }
    for (const [domain, constraint] of Object.entries(constraints)) {
      yield* sql.unsafe(`ALTER DOMAIN "${name}".${domain} DROP CONSTRAINT ${constraint}`).unprepared
    }
  }))
  const suite = TestPostgres.broker().pipe(
    Layer.provideMerge(unbounded),
    Layer.provideMerge(TestPostgres.database(version))
  )
  layer(suite, { excludeTestServices: true })(`Rows that nothing has bounded, on Postgres ${version}`, (it) => {
    const unreadable: ReadonlyArray<readonly [what: string, columns: Readonly<Record<string, string>>]> = [
      ["a timeout that is no number", { timeout_millis: "'NaN'" }],
      ["a timeout beyond all times", { timeout_millis: "1e300" }],
      ["a timeout without end", { timeout_millis: "'Infinity'" }],
      ["a fence that a number cannot hold", { fence: "9007199254740993" }],
      ["the last fence of all", { fence: "9223372036854775807" }],
      ["a payload that no message carries", { payload: "repeat('x', 17 * 1024 * 1024)" }]
    ]

    it.effect("are set aside as failed, and others go on", () =>
      Effect.gen(function*() {
        const broker = yield* Broker
        const bad = yield* Effect.forEach(unreadable, ([, columns]) => putRow({ ...columns, priority: "9" }))
        const distant = yield* putRow({ run_at: "'-infinity'", priority: "9" })
        yield* serving()
        const good = yield* Task.enqueueAll(Double, Array.from({ length: 50 }, (_, n) => ({ n })))
        const results = yield* Effect.forEach(good, (execution) => execution.await, { concurrency: "unbounded" })
        assert.deepStrictEqual(results, good.map((_, n) => 2 * n))
        const { s, sql } = yield* database
        const ended = (id: string) =>
          sql<{ readonly state: string; readonly result: string }>`
            SELECT h.state, h.result FROM ${s}.history h WHERE h.id = ${id}
          `
        for (const [index, id] of bad.entries()) {
          const [what] = unreadable[index]!
          yield* eventually(`the end of ${what}`, Effect.map(ended(id), ({ length }) => length === 1))
          assert.deepStrictEqual(yield* ended(id), [{ state: "failed", result: Endings.unreadable }], what)
        }
        yield* eventually("the end of the oldest", Effect.map(ended(distant), ({ length }) => length === 1))
        // Nothing of it is left in a worker's hands, and what can be read of it is.
        assert.lengthOf(yield* sql`SELECT FROM ${s}.executions WHERE task = ${lane.task}`, 0)
        assert.strictEqual(Option.getOrThrow(yield* broker.read(bad[0]!)).state, "failed")
      }))

    it.effect("are told of as bad data, which is no outage, and keep nobody else's from being read", () =>
      Effect.gen(function*() {
        const broker = yield* Broker
        const { s, sql } = yield* database
        const own = makeLane()
        const ids = Array.from({ length: 3 }, () => uuid())
        yield* broker.enqueue(ids.map((id) => execution({ ...own, id })))
        const hired = yield* hire(broker, [own])
        yield* hired.succeed(yield* hired.claim())
        // A payload and a result that fit one message each, and not both.
        yield* sql`
          UPDATE ${s}.history SET payload = repeat('x', 9 * 1024 * 1024), result = repeat('y', 9 * 1024 * 1024)
          WHERE id = ${ids[1]!}
        `
        const error = yield* Effect.flip(broker.read(ids[1]!))
        assert.strictEqual(error.reason._tag, "BadData")
        const [first, second, third] = yield* Effect.all(
          ids.map((id) => Effect.exit(broker.awaitTerminal(id))),
          { concurrency: "unbounded" }
        )
        assert.deepStrictEqual([first!._tag, second!._tag, third!._tag], ["Success", "Failure", "Success"])
      }))

    it.effect("do not keep a supervisor's lease from being renewed", () =>
      Effect.gen(function*() {
        const broker = yield* Broker
        const own = makeLane()
        const { s, sql } = yield* database
        const hired = yield* hire(broker, [own])
        yield* hired.tick
        yield* sql.unsafe(
          `ALTER TABLE "${
            (yield* TestPostgres.TestSchema).name
          }".history ADD CONSTRAINT no_more CHECK (false) NOT VALID`
        )
          .unprepared
        const late = yield* putRow({ start_by: "now() - interval '1 second'", lane: "1" })
        for (let again = 0; again < 2; again++) {
          const error = yield* Effect.flip(hired.tick)
          assert.strictEqual(error.reason._tag, "BadData", "the duty that was done with the tick")
          const asked = {
            supervisor: hired.supervisor,
            lanes: [own],
            lease: execution(own).timeout,
            duties: ["expire"]
          }
          const tick = yield* broker.tick(asked)
          assert.isTrue(tick.alive)
          assert.deepStrictEqual(tick.dueDuties, ["expire"])
        }
        yield* sql.unsafe(`ALTER TABLE "${(yield* TestPostgres.TestSchema).name}".history DROP CONSTRAINT no_more`)
          .unprepared
        yield* hired.tick
        assert.lengthOf(yield* sql`SELECT FROM ${s}.history WHERE id = ${late} AND state = 'expired'`, 1)
      }))

    it.effect("are given in parts of what an answer carries", () =>
      Effect.gen(function*() {
        const broker = yield* Broker
        const own = makeLane()
        const payload = JSON.stringify("x".repeat(6 * 1024 * 1024))
        const ids = Array.from({ length: 5 }, () => uuid())
        yield* broker.enqueue(ids.map((id) => execution({ ...own, id, payload })))
        const hired = yield* hire(broker, [own])
        for (let claimed = 0; claimed < ids.length;) claimed += (yield* hired.claim()).length
        const owned = yield* broker.owned(hired.supervisor)
        assert.sameMembers(owned.map(({ id }) => id), ids)
        assert.isTrue(owned.every((claimed) => claimed.payload === payload))
        yield* hired.succeed(owned)
        const records = yield* Effect.forEach(ids, (id) => broker.awaitTerminal(id), { concurrency: "unbounded" })
        assert.isTrue(records.every((record) => Option.getOrThrow(record).payload === payload))
      }))
  })

  layer(TestPostgres.database(version), { excludeTestServices: true })(`Limits on Postgres ${version}`, (it) => {
    it.effect("keep the largest payload, result and tags there are", () =>
      Effect.gen(function*() {
        const { PgBroker } = yield* Effect.promise(() => import("@effect-ray/postgres"))
        const broker = yield* PgBroker.make({ schema: (yield* TestPostgres.TestSchema).name })
        const own = makeLane()
        const payload = JSON.stringify("€".repeat((Limits.maxCarriedBytes - 2) / 3))
        const tags = { a: "x".repeat(Limits.maxTagsBytes - 8) }
        const given = execution({
          ...own,
          payload,
          tags,
          traceparent: Option.some("0".repeat(Limits.maxTraceparentBytes))
        })
        yield* broker.enqueue([given])
        const hired = yield* hire(broker, [own])
        const [claimed] = yield* hired.claim()
        assert.strictEqual(claimed!.payload, payload)
        const { Envelope, Outcome } = yield* Effect.promise(() => import("@effect-ray/core"))
        const result = Envelope.success(payload)
        const answers = yield* broker.settle(hired.supervisor, [{
          id: given.id,
          fence: claimed!.fence,
          outcome: Outcome.Outcome.Succeeded({ result }),
          place: Option.some(`a place\u0000${"x".repeat(10_000)}`)
        }])
        assert.deepStrictEqual(answers, ["Settled"])
        const record = Option.getOrThrow(yield* broker.read(given.id))
        assert.deepStrictEqual([record.state, record.tags], ["succeeded", tags])
        assert.deepStrictEqual([record.payload, record.result], [payload, Option.some(result)])
      }))
  })
}
