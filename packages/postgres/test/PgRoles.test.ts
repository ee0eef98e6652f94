/** The two roles of docs/roles.md: what they may do is enough, and all there is. */
import { Broker } from "@effect-ray/core/Broker"
import { GatewayRegistry } from "@effect-ray/core/GatewayRegistry"
import { PgBroker, PgGatewayRegistry, PgMigrations, PgRunStore } from "@effect-ray/postgres"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type * as SqlError from "effect/sql/SqlError"
import * as Crypto from "node:crypto"
import * as Fs from "node:fs/promises"
import { brokerSuite } from "../../core/test/BrokerSuite.ts"
import { runStoreSuite } from "../../core/test/RunStoreSuite.ts"
import { makeDesk, over } from "../../core/test/runStoreSuite/kit.ts"
import { sqlState } from "../src/internal/sqlFailure.ts"
import { database, execution, hire, key, makeLane } from "./kit.ts"
import * as TestPostgres from "./TestPostgres.ts"

/** Names of the roles of this suite, and of two who may log in. */
class TestRoles extends Context.Service<TestRoles, { readonly app: string; readonly worker: string }>()(
  "@effect-ray/postgres/test/TestRoles"
) {}

const password = "only for tests"

/** Runs the statements of the page, for this suite's schema and roles. */
const granted = Layer.effect(
  TestRoles,
  Effect.gen(function*() {
    const sql = yield* PgClient.PgClient
    const { name } = yield* TestPostgres.TestSchema
    const page = yield* Effect.promise(() => Fs.readFile(new URL("../../../docs/roles.md", import.meta.url), "utf8"))
    const suffix = Crypto.randomBytes(6).toString("hex")
    const statements = /```sql\n([^]*?)```/.exec(page)![1]!
      .replaceAll("effect_ray_app", `app_${suffix}`)
      .replaceAll("effect_ray_worker", `worker_${suffix}`)
      .replaceAll("effect_ray", name)
    const roles = [`shop_worker_${suffix}`, `shop_${suffix}`, `worker_${suffix}`, `app_${suffix}`]
    yield* Effect.addFinalizer(() =>
      Effect.forEach(roles, (role) =>
        Effect.ignore(Effect.andThen(
          sql.unsafe(`DROP OWNED BY ${role}`).unprepared,
          sql.unsafe(`DROP ROLE ${role}`).unprepared
        )))
    )
    for (const statement of statements.replaceAll(/^--.*$/gm, "").split(";")) {
      if (statement.trim() !== "") yield* sql.unsafe(statement).unprepared
    }
    for (const [who, role] of [["shop", "app"], ["shop_worker", "worker"]]) {
      yield* sql.unsafe(`CREATE ROLE ${who}_${suffix} LOGIN PASSWORD '${password}' IN ROLE ${role}_${suffix}`)
        .unprepared
    }
    return { app: `shop_${suffix}`, worker: `shop_worker_${suffix}` }
  })
)

/** A client that logs in as one of them. */
const clientAs = (who: "app" | "worker") =>
  Effect.gen(function*() {
    const { url } = yield* TestPostgres.TestServer
    const roles = yield* TestRoles
    const parsed = new URL(Redacted.value(url))
    parsed.username = roles[who]
    parsed.password = encodeURIComponent(password)
    return yield* Layer.build(Layer.fresh(PgClient.layer({ url: Redacted.make(parsed.href) })))
  })

const brokerAs = (who: "app" | "worker") =>
  Effect.gen(function*() {
    const client = yield* clientAs(who)
    const { name: schema } = yield* TestPostgres.TestSchema
    const broker = yield* Effect.provideContext(PgBroker.make({ schema }), client)
    return { broker, client, schema, sql: Context.get(client, PgClient.PgClient) }
  })

/** A store of runs, and its broker. */
const runsAs = (who: "app" | "worker") =>
  Effect.gen(function*() {
    const client = yield* clientAs(who)
    const { name: schema } = yield* TestPostgres.TestSchema
    return yield* Effect.provideContext(Layer.build(Layer.fresh(PgRunStore.layer({ schema }))), client)
  })

const migrated = (version: TestPostgres.Version) => Layer.provideMerge(granted, TestPostgres.database(version))

/** Postgres' word for what a role may not do. */
const denied = "42501"

for (const version of TestPostgres.versions) {
  brokerSuite(`PgBroker as a worker's role, on Postgres ${version}`, {
    layer: Layer.effect(Broker, Effect.map(brokerAs("worker"), ({ broker }) => broker)).pipe(
      Layer.provideMerge(migrated(version))
    ),
    advance: TestPostgres.advance,
    live: true
  })

  runStoreSuite(`PgRunStore as a worker's role, on Postgres ${version}`, {
    layer: Layer.effectContext(runsAs("worker")).pipe(Layer.provideMerge(migrated(version))),
    advance: TestPostgres.advance,
    live: true
  })

  layer(migrated(version), { excludeTestServices: true })(`Roles on Postgres ${version}`, (it) => {
    it.effect("let an application enqueue, read, await and cancel, in transactions too, and nothing else", () =>
      Effect.gen(function*() {
        const app = yield* brokerAs("app")
        const worker = yield* brokerAs("worker")
        const lane = makeLane()
        const [plain, keyed, joined, other] = [
          execution(lane),
          execution({ ...lane, ...key("k") }),
          execution({ ...lane, ...key("j") }),
          execution(lane)
        ]
        yield* app.broker.enqueue([plain])
        yield* app.broker.enqueue([keyed])
        yield* app.sql.withTransaction(app.broker.enqueue([joined, other]))
        assert.strictEqual(yield* app.broker.cancel(other.id), "Cancelled")
        const waiter = yield* Effect.forkChild(app.broker.awaitTerminal(plain.id), { startImmediately: true })
        const hired = yield* hire(worker.broker, [lane])
        yield* hired.succeed(yield* hired.claim())
        yield* hired.tick
        assert.strictEqual(Option.getOrThrow(yield* Fiber.join(waiter)).state, "succeeded")
        assert.strictEqual(Option.getOrThrow(yield* app.broker.read(keyed.id)).state, "succeeded")
        assert.lengthOf(yield* app.broker.attempts(joined.id), 1)

        for (
          const refused of [
            hire(app.broker, [lane]),
            app.broker.claim({ supervisor: hired.supervisor, lanes: [lane], limit: 1 }),
            app.broker.owned(hired.supervisor),
            app.broker.tick({ supervisor: hired.supervisor, lanes: [lane], lease: plain.timeout, duties: [] }),
            app.broker.takeTurn(app.broker.duties[0]!),
            ...app.broker.duties.filter(({ name }) => !["make partitions", "wake"].includes(name)).map(({ perform }) =>
              perform
            ),
            app.broker.unregister(hired.supervisor)
          ]
        ) {
          const error = yield* Effect.flip(refused)
          assert.match(error.message, /permission denied.*42501.*docs\/roles\.md/)
        }
      }))

    it.effect("let an application start runs, send to them, read, await and cancel them, and nothing else", () =>
      Effect.gen(function*() {
        const here = yield* Effect.provideContext(makeDesk, yield* runsAs("app"))
        const there = yield* Effect.provideContext(makeDesk, yield* runsAs("worker"))
        const run = there.run()
        yield* here.runs.start(run, { owner: Option.none(), messages: [] })
        const worker = yield* there.hire()
        const claimed = yield* worker.claimOne
        yield* here.send(run.id, "a")
        assert.strictEqual(yield* here.broker.cancel(run.id), "Requested")
        yield* worker.commit(claimed, { next: over("7") })
        const record = yield* here.broker.awaitTerminal(run.id)
        assert.deepStrictEqual(Option.flatMap(record, ({ result }) => result), Option.some("7"))
        const commit = {
          run: run.id,
          fence: claimed.fence,
          length: 0,
          link: 1,
          entries: [],
          children: [],
          tasks: [],
          messages: [],
          next: over()
        }
        for (
          const refused of [
            Effect.asVoid(here.runs.claim({ supervisor: worker.id, workflows: [there.workflow], limit: 1 })),
            Effect.asVoid(here.runs.load(run.id, 0)),
            Effect.asVoid(here.runs.commit(worker.id, commit))
          ]
        ) {
          const error = yield* Effect.flip(refused)
          assert.match(error.message, /permission denied.*42501.*docs\/roles\.md/)
        }
      }))

    it.effect("let nobody but the owner at a table, but for a worker's two", () =>
      Effect.gen(function*() {
        const { sql } = yield* database
        const { name: schema } = yield* TestPostgres.TestSchema
        const tables = (yield* sql<{ readonly name: string }>`
          SELECT relname AS name FROM pg_class WHERE relnamespace = ${schema}::regnamespace AND relkind IN ('r', 'p')
        `).map(({ name }) => name)
        assert.includeMembers(tables, [
          "executions",
          "history",
          "attempts",
          "gateways",
          "keys",
          "supervisors",
          "runs",
          "journal",
          "inbox"
        ])
        const readable = Effect.fnUntraced(function*(who: "app" | "worker") {
          const own = yield* brokerAs(who)
          const found: Array<string> = []
          for (const table of tables.filter((name) => name !== "test_clock")) {
            const exit = yield* Effect.result(own.sql.unsafe(`SELECT FROM "${schema}"."${table}" LIMIT 1`))
            if (exit._tag === "Success") found.push(table)
            else assert.strictEqual(sqlState(exit.failure), denied)
          }
          return found
        })
        assert.deepStrictEqual(yield* readable("app"), [])
        assert.sameMembers([...yield* readable("worker")], ["functions", "migrations"])
        const error = yield* Effect.flip((yield* brokerAs("worker")).sql.unsafe(`CREATE TABLE "${schema}".mine ()`))
        assert.strictEqual(sqlState(error as SqlError.SqlError), denied)
      }))

    it.effect("let a worker check the schema, keep the gateways and make the partitions of the days to come", () =>
      Effect.gen(function*() {
        const worker = yield* brokerAs("worker")
        const { s, sql } = yield* database
        yield* Effect.provideContext(PgMigrations.check({ schema: worker.schema }), worker.client)
        const registry = yield* Effect.provideContext(
          Effect.flatMap(
            Layer.build(PgGatewayRegistry.layer({ schema: worker.schema })),
            (context) => Effect.succeed(Context.get(context, GatewayRegistry))
          ),
          worker.client
        )
        const entry = {
          deployment: "d",
          cluster: "c",
          epoch: 1,
          submissionId: "s",
          protocol: 1,
          secret: Redacted.make("secret"),
          address: Option.none()
        }
        for (const epoch of [1, 2, 3]) assert.isTrue(yield* registry.open({ ...entry, epoch }))
        yield* registry.publish({ ...entry, epoch: 3 }, { host: "10.0.0.1", port: 1 })
        assert.strictEqual(Option.getOrThrow(yield* registry.current("d", "c")).epoch, 3)

        // Eight days later, whoever owns nothing makes what there is not.
        const leaves = yield* sql<{ readonly name: string }>`
          SELECT relid::regclass::text AS name FROM pg_partition_tree(${`${worker.schema}.history`}::regclass) WHERE isleaf
        `
        for (const { name } of leaves) yield* sql.unsafe(`DROP TABLE ${name}`)
        const lane = makeLane()
        yield* worker.broker.enqueue([execution(lane)])
        const hired = yield* hire(worker.broker, [lane])
        const claimed = yield* hired.claim()
        assert.deepStrictEqual(yield* hired.succeed(claimed), ["Settled"])
        assert.lengthOf(yield* sql`SELECT FROM ${s}.history WHERE id = ${claimed[0]!.id}`, 1)
        // Not more than anybody needs, whatever is asked for.
        yield* worker.sql.unsafe(`SELECT "${worker.schema}".ensure_partitions(100000)`)
        const after = yield* sql`SELECT FROM pg_partition_tree(${`${worker.schema}.history`}::regclass) WHERE isleaf`
        assert.isAtMost(after.length, 31)
      }))

    it.effect("cannot make a function mean something else by what stands in their search_path", () =>
      Effect.gen(function*() {
        const { s, sql } = yield* database
        const { name: schema } = yield* TestPostgres.TestSchema
        const loose = yield* sql<{ readonly name: string }>`
          SELECT p.oid::regprocedure::text AS name
          FROM pg_proc p
          WHERE p.pronamespace = ${schema}::regnamespace
            -- A body that is no text has been read; those of the test's clock are the test's.
            AND p.prosqlbody IS NULL AND p.proname NOT IN ('now', 'clock')
            AND NOT coalesce(p.proconfig @> ARRAY['search_path=pg_catalog, pg_temp'], false)
        `
        assert.deepStrictEqual(loose, [])
        const open = yield* sql`
          SELECT FROM pg_proc p WHERE p.pronamespace = ${schema}::regnamespace AND p.prosecdef
            AND has_function_privilege('public', p.oid, 'EXECUTE')
        `
        assert.lengthOf(open, 0)

        // The app's session looks elsewhere first, and there everything is another.
        const app = yield* brokerAs("app")
        const trap = `trap_${Crypto.randomBytes(4).toString("hex")}`
        yield* sql.unsafe(`CREATE SCHEMA ${trap}`)
        yield* sql.unsafe(`GRANT ALL ON SCHEMA ${trap} TO PUBLIC`)
        yield* Effect.addFinalizer(() => Effect.ignore(sql.unsafe(`DROP SCHEMA ${trap} CASCADE`)))
        const lane = makeLane()
        const given = execution({ ...lane, ...key("k") })
        yield* app.sql.withTransaction(Effect.gen(function*() {
          yield* app.sql.unsafe(`SET LOCAL search_path = ${trap}, pg_catalog`)
          yield* app.sql.unsafe(
            `CREATE FUNCTION ${trap}.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS 'SELECT ''2000-01-01''::timestamptz'`
          )
          yield* app.sql.unsafe(
            `CREATE FUNCTION ${trap}.pg_notify(text, text) RETURNS void LANGUAGE plpgsql AS 'BEGIN RAISE ''trapped''; END'`
          )
          yield* app.sql.unsafe(`CREATE TEMP TABLE executions (id uuid) ON COMMIT DROP`)
          yield* app.sql.unsafe(
            `CREATE FUNCTION ${trap}.equal(uuid, uuid) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE ''trapped''; END'`
          )
          yield* app.sql.unsafe(
            `CREATE OPERATOR ${trap}.= (FUNCTION = ${trap}.equal, LEFTARG = uuid, RIGHTARG = uuid)`
          )
          yield* app.broker.enqueue([given])
          assert.strictEqual(yield* app.broker.cancel(given.id), "Cancelled")
        }))
        const [row] = yield* sql<{ readonly enqueued_at: Date }>`
          SELECT enqueued_at::timestamptz FROM ${s}.history WHERE id = ${given.id}
        `
        assert.isAbove(row!.enqueued_at.getTime(), Date.parse("2020-01-01"))
      }))
  })
}
