/** One gateway a deployment and cluster, agreed on through the database. */
import { GatewayRegistry } from "@effect-ray/core/GatewayRegistry"
import { PgGatewayRegistry } from "@effect-ray/postgres"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { database, uuid } from "./kit.ts"
import * as TestPostgres from "./TestPostgres.ts"

const entry = (deployment: string, epoch: number) => ({
  deployment,
  cluster: "http://ray:8265",
  epoch,
  submissionId: `effect-ray-${epoch}`,
  protocol: 1,
  secret: Redacted.make("s3cret"),
  address: Option.none()
})

for (const version of TestPostgres.versions) {
  const registry = Layer.unwrap(
    Effect.map(TestPostgres.TestSchema, ({ name }) => PgGatewayRegistry.layer({ schema: name }))
  )
  layer(Layer.provideMerge(registry, TestPostgres.database(version)), { excludeTestServices: true })(
    `PgGatewayRegistry on Postgres ${version}`,
    (it) => {
      it.effect("lets one of many open an epoch, and shows it to all", () =>
        Effect.gen(function*() {
          const registry = yield* GatewayRegistry
          const deployment = uuid()
          assert.isTrue(Option.isNone(yield* registry.current(deployment, "http://ray:8265")))
          const opened = yield* Effect.all(
            Array.from({ length: 8 }, () => registry.open(entry(deployment, 1))),
            { concurrency: "unbounded" }
          )
          assert.strictEqual(opened.filter((won) => won).length, 1)
          const current = Option.getOrThrow(yield* registry.current(deployment, "http://ray:8265"))
          assert.strictEqual(Redacted.value(current.secret), "s3cret")
          assert.deepStrictEqual({ ...current, secret: undefined }, { ...entry(deployment, 1), secret: undefined })
          assert.isTrue(Option.isNone(yield* registry.current(deployment, "http://other:8265")))
        }))

      it.effect("keeps the newest epoch of each gateway and the one before, and no secret of those that are gone", () =>
        Effect.gen(function*() {
          const registry = yield* GatewayRegistry
          const { s, sql } = yield* database
          const [deployment, other] = [uuid(), uuid()]
          yield* registry.open(entry(other, 1))
          for (let epoch = 1; epoch <= 12; epoch++) assert.isTrue(yield* registry.open(entry(deployment, epoch)))
          const epochsOf = (deployment: string) =>
            Effect.map(
              sql<
                { readonly epoch: number }
              >`SELECT epoch FROM ${s}.gateways WHERE deployment = ${deployment} ORDER BY epoch`,
              (rows) => rows.map(({ epoch }) => epoch)
            )
          assert.deepStrictEqual(yield* epochsOf(deployment), [11, 12])
          assert.deepStrictEqual(yield* epochsOf(other), [1])
        }))

      it.effect("publishes an address, and never goes back to an older epoch", () =>
        Effect.gen(function*() {
          const registry = yield* GatewayRegistry
          const deployment = uuid()
          const address = { host: "10.0.0.1", port: 7001 }
          assert.isTrue(yield* registry.open(entry(deployment, 1)))
          yield* registry.publish(entry(deployment, 1), address)
          const first = Option.getOrThrow(yield* registry.current(deployment, "http://ray:8265"))
          assert.deepStrictEqual(first.address, Option.some(address))
          assert.isTrue(yield* registry.open(entry(deployment, 2)))
          assert.isFalse(yield* registry.open(entry(deployment, 1)))
          assert.isFalse(yield* registry.open(entry(deployment, 2)))
          const second = Option.getOrThrow(yield* registry.current(deployment, "http://ray:8265"))
          assert.deepStrictEqual([second.epoch, second.address], [2, Option.none()])
        }))

      it.effect("takes no operator that another role has put into a schema of the session's", () =>
        Effect.gen(function*() {
          const { sql } = yield* database
          const { name } = yield* TestPostgres.TestSchema
          const trap = `trap_${uuid().slice(-12)}`
          yield* Effect.addFinalizer(() => Effect.ignore(sql.unsafe(`DROP SCHEMA ${trap} CASCADE`)))
          yield* sql.unsafe(`CREATE SCHEMA ${trap}`).unprepared
          for (const operator of ["<=", ">=", "="]) {
            const trapped = `${trap}.trapped_${operator.length}${operator.charCodeAt(0)}`
            yield* sql.unsafe(`
              CREATE FUNCTION ${trapped}("${name}".tally, integer) RETURNS boolean
              LANGUAGE plpgsql AS 'BEGIN RAISE ''trapped''; END'
            `).unprepared
            yield* sql.unsafe(`
              CREATE OPERATOR ${trap}.${operator} (FUNCTION = ${trapped}, LEFTARG = "${name}".tally, RIGHTARG = integer)
            `).unprepared
          }
          const client = yield* Layer.build(Layer.fresh(TestPostgres.client({
            startupOptions: `-c search_path=${trap},public`
          })))
          const registry = yield* Effect.provideContext(PgGatewayRegistry.make({ schema: name }), client)
          const deployment = uuid()
          for (const epoch of [1, 2, 3]) assert.isTrue(yield* registry.open(entry(deployment, epoch)))
          yield* registry.publish(entry(deployment, 3), { host: "10.0.0.1", port: 7001 })
          assert.strictEqual(Option.getOrThrow(yield* registry.current(deployment, "http://ray:8265")).epoch, 3)
        }))
    }
  )
}
