/** Workers that are started before what they need. */
import { assert, layer } from "@effect/vitest"
import * as EmbeddedPostgres from "@effect-ray/postgres/EmbeddedPostgres"
import * as PgMigrations from "@effect-ray/postgres/PgMigrations"
import * as LocalRay from "@effect-ray/ray/LocalRay"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as http from "node:http"
import * as net from "node:net"
import { fixture, run, start, temporaryFolder } from "./kit.ts"

const worker = fixture("worker.ts")

/** A port that nothing listens on. */
const freePort = Effect.callback<number>((resume) => {
  const server = net.createServer().listen(0, "127.0.0.1", () => {
    const { port } = server.address() as net.AddressInfo
    server.close(() => resume(Effect.succeed(port)))
  })
})

/** Forwards a port to another until the scope closes. */
const forward = (port: number, to: number) =>
  Effect.acquireRelease(
    Effect.callback<net.Server>((resume) => {
      const server = net.createServer((client) => {
        const upstream = net.connect(to, "127.0.0.1")
        for (const socket of [client, upstream]) {
          socket.on("error", () => {
            client.destroy()
            upstream.destroy()
          })
        }
        client.pipe(upstream).pipe(client)
      })
      server.listen(port, "127.0.0.1", () => resume(Effect.succeed(server)))
    }),
    (server) => Effect.sync(() => server.close())
  )

/** The port that a server listens on until the scope closes. */
const listening = (server: net.Server) =>
  Effect.acquireRelease(
    Effect.callback<number>((resume) => {
      server.listen(0, "127.0.0.1", () => resume(Effect.succeed((server.address() as net.AddressInfo).port)))
    }),
    () => Effect.sync(() => server.close())
  )

/** The address of a server that answers everything so, until the scope closes. */
const webServer = (status: number, body: string) =>
  Effect.map(
    listening(http.createServer((_, response) => response.writeHead(status).end(body))),
    (port) => `http://127.0.0.1:${port}`
  )

/** The port of a server that accepts connections and says nothing, until the scope closes. */
const mute = Effect.suspend(() => listening(net.createServer((socket) => socket.on("error", () => {}))))

/** A Postgres for all of these: what they keep from it is the way there. */
class Server extends Context.Service<Server, EmbeddedPostgres.Server>()("Server") {
  static readonly layer = Layer.effect(
    Server,
    Effect.tap(EmbeddedPostgres.make(), ({ url }) => Effect.provide(PgMigrations.migrate(), PgClient.layer({ url })))
  )
}

layer(Server.layer, { excludeTestServices: true, timeout: "2 minutes" })("A worker that is started early", (it) => {
  it.effect("waits for Postgres, says so, and serves when it is there", () =>
    Effect.gen(function*() {
      const server = yield* Server
      const url = new URL(Redacted.value(server.url))
      const port = yield* freePort
      const there = Number(url.port)
      url.port = String(port)
      const program = yield* start(["worker", worker, "--sync"], { env: { DATABASE_URL: url.href } })
      yield* program.says(`waiting for Postgres at ${url.host}${url.pathname}, for 1m at most`)
      assert.notInclude(program.stderr(), url.password)
      yield* forward(port, there)
      yield* program.says("supervisor started")
      yield* program.signal("SIGTERM")
      assert.strictEqual(yield* program.exit, 0)
    }))

  it.effect("waits for no Postgres that refuses it", () =>
    Effect.gen(function*() {
      const server = yield* Server
      const url = new URL(Redacted.value(server.url))
      url.password = "sesame"
      const { code, stderr } = yield* run(["worker", worker, "--sync"], { env: { DATABASE_URL: url.href } })
      assert.strictEqual(code, 1)
      assert.include(stderr, "cannot be used")
      assert.notInclude(stderr, "waiting for")
      assert.notInclude(stderr, "sesame")
    }))

  it.effect("waits for Ray, says so, and serves when it is there", () =>
    Effect.gen(function*() {
      const server = yield* Server
      const ray = yield* LocalRay.make({ stateFolder: yield* temporaryFolder })
      const port = yield* freePort
      const program = yield* start(["worker", worker], {
        env: {
          DATABASE_URL: Redacted.value(server.url),
          RAY_ADDRESS: `http://127.0.0.1:${port}`,
          RAY_AUTH_TOKEN: Redacted.value(ray.token)
        }
      })
      yield* program.says(`waiting for Ray at http://127.0.0.1:${port}, for 1m at most`)
      yield* forward(port, Number(new URL(ray.address).port))
      yield* program.says("supervisor started")
      yield* program.signal("SIGTERM")
      assert.strictEqual(yield* program.exit, 0)
    }))

  it.effect("does not wait for Ray where something else is", () =>
    Effect.gen(function*() {
      const server = yield* Server
      const { code, stderr } = yield* run(["worker", worker], {
        env: { DATABASE_URL: Redacted.value(server.url), RAY_ADDRESS: yield* webServer(404, "no such page") }
      })
      assert.strictEqual(code, 1)
      assert.match(stderr, /what answers at http:\/\/127\.0\.0\.1:\d+ is not Ray: .* with 404\. Set RAY_ADDRESS/)
      assert.notInclude(stderr, "waiting for")
    }))

  it.effect("waits for Ray behind a proxy that has no dashboard yet", () =>
    Effect.gen(function*() {
      const server = yield* Server
      const address = yield* webServer(503, "no healthy upstream")
      const { code, stderr } = yield* run(["worker", worker, "--start-timeout", "1s"], {
        env: { DATABASE_URL: Redacted.value(server.url), RAY_ADDRESS: address }
      })
      assert.strictEqual(code, 1)
      assert.include(stderr, `waiting for Ray at ${address}, for 1s at most: no Ray answers at ${address}`)
      assert.include(stderr, "with 503; check that it runs, and RAY_ADDRESS")
    }))

  it.effect("waits for what accepts connections and says nothing", () =>
    Effect.gen(function*() {
      const server = yield* Server
      const port = yield* mute
      const [postgres, ray] = yield* Effect.all([
        run(["worker", worker, "--sync", "--start-timeout", "3s"], {
          env: { DATABASE_URL: `postgres://postgres@127.0.0.1:${port}/postgres` }
        }),
        run(["worker", worker, "--start-timeout", "3s"], {
          env: { DATABASE_URL: Redacted.value(server.url), RAY_ADDRESS: `http://127.0.0.1:${port}` }
        })
      ], { concurrency: 2 })
      assert.strictEqual(postgres.code, 1)
      assert.include(postgres.stderr, `waiting for Postgres at 127.0.0.1:${port}/postgres, for 3s at most`)
      assert.strictEqual(ray.code, 1)
      assert.include(ray.stderr, `waiting for Ray at http://127.0.0.1:${port}, for 3s at most`)
      for (const { stderr } of [postgres, ray]) assert.include(stderr, "no answer in time")
    }))

  it.effect("ends when its patience is over, with what it waited for", () =>
    Effect.gen(function*() {
      const url = `postgres://postgres@127.0.0.1:${yield* freePort}/postgres`
      const { code, stderr } = yield* run(["worker", worker, "--sync", "--start-timeout", "1s"], {
        env: { DATABASE_URL: url }
      })
      assert.strictEqual(code, 1)
      assert.match(stderr, /waiting for Postgres at 127\.0\.0\.1:\d+\/postgres, for 1s at most/)
      assert.match(stderr, /Postgres at 127\.0\.0\.1:\d+\/postgres cannot be used: .*ECONNREFUSED/)
    }))
})
