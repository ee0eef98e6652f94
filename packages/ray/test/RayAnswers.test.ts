import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as http from "node:http"
import * as net from "node:net"
import * as RayCluster from "../src/RayCluster.ts"
import type { RayError } from "../src/RayError.ts"
import { eventually } from "./support.ts"

const token = "0123456789abcdef".repeat(4)

const listening = (server: net.Server) =>
  Effect.acquireRelease(
    Effect.callback<string>((resume) => {
      server.listen(0, "127.0.0.1", () => {
        resume(Effect.succeed(`http://127.0.0.1:${(server.address() as net.AddressInfo).port}`))
      })
    }),
    () => Effect.sync(() => server.close())
  )

/** The address of a server that answers so. */
const serving = (answer: http.RequestListener) => listening(http.createServer(answer))

const asked = <A, E>(
  address: string,
  ask: (cluster: RayCluster.RayCluster["Service"]) => Effect.Effect<A, E>,
  timeout?: Duration.Duration
) =>
  Effect.flatMap(RayCluster.RayCluster, ask).pipe(
    Effect.provide(
      RayCluster.layer({ address, token: Redacted.make(token), ...(timeout === undefined ? {} : { timeout }) })
    )
  )

const json = (body: unknown, status = 200): http.RequestListener => (_, response) => {
  response.writeHead(status, { "content-type": "application/json" })
  response.end(JSON.stringify(body))
}

const megabyte = Buffer.alloc(1024 * 1024, "x")

/** Every operation that reads what Ray says, with the most that it reads. */
const operations = (cluster: RayCluster.RayCluster["Service"]) => [
  { limit: RayCluster.maxAnswerBytes, ask: cluster.version },
  { limit: RayCluster.maxAnswerBytes, ask: cluster.status("job") },
  { limit: RayCluster.maxAnswerBytes, ask: cluster.stop("job") },
  { limit: RayCluster.maxAnswerBytes, ask: cluster.delete("job") },
  { limit: RayCluster.maxAnswerBytes, ask: cluster.pinPackage(`gcs://_ray_pkg_${"0".repeat(32)}.zip`) },
  { limit: RayCluster.maxAnswerBytes, ask: cluster.uploadPackage(new Uint8Array(8)) },
  { limit: RayCluster.maxAnswerBytes, ask: cluster.submit({ submissionId: "job", entrypoint: "true" }) },
  { limit: RayCluster.maxJobsBytes, ask: cluster.running },
  { limit: RayCluster.maxLogBytes, ask: cluster.logs("job") }
]

describe("What answers in Ray's place", () => {
  it.live("is not read further than an answer may be long, whether it says its length or has none", () =>
    Effect.gen(function*() {
      for (const headers of [{}, { "content-length": String(1024 * megabyte.length) }]) {
        let sent = 0
        let ended = 0
        const address = yield* serving((_, response) => {
          response.writeHead(200, headers)
          const write = (): void => {
            while (sent < 1024 * megabyte.length && !response.destroyed) {
              sent += megabyte.length
              if (!response.write(megabyte)) return void response.once("drain", write)
            }
          }
          response.on("close", () => ended++)
          write()
        })
        yield* asked(address, (cluster) =>
          Effect.gen(function*() {
            for (const { ask, limit } of operations(cluster)) {
              sent = 0
              const error = yield* Effect.flip(Effect.asVoid(ask))
              assert.strictEqual(error.reason._tag, "TooLarge", error.message)
              assert.include(error.message, `${address} answers`)
              assert.include(error.message, `more than ${limit} bytes`)
              assert.include(error.message, "RAY_ADDRESS")
              // What lies in the buffers of the two ends was not read.
              assert.isBelow(sent, limit + 32 * megabyte.length)
            }
          }))
        // What is not read is not kept open either.
        yield* eventually(Effect.sync(() => ended), (ended) => ended === 9)
      }
    }))

  it.live("is given up when it does not come to an end", () =>
    Effect.gen(function*() {
      const address = yield* serving((_, response) => {
        const timer = setInterval(() => response.write(" "), 10)
        response.on("close", () => clearInterval(timer))
      })
      const error = yield* Effect.flip(asked(address, ({ version }) => version, Duration.millis(300)))
      assert.strictEqual(error.reason._tag, "Unreachable")
      assert.include(error.message, "no answer in time")
    }))

  it.live("is a proxy whose dashboard is not there: no Ray answers", () =>
    Effect.gen(function*() {
      for (const status of [502, 503, 504]) {
        const address = yield* serving(json("no healthy upstream", status))
        yield* asked(address, (cluster) =>
          Effect.gen(function*() {
            for (const { ask } of operations(cluster)) {
              const error = yield* Effect.flip(Effect.asVoid(ask))
              assert.strictEqual(error.reason._tag, "Unreachable")
              assert.include(error.message, `no Ray answers at ${address}:`)
              assert.include(error.message, `was answered with ${status}; check that it runs, and RAY_ADDRESS`)
            }
          }))
      }
    }))

  it.live("is not followed elsewhere with the token", () =>
    Effect.gen(function*() {
      const seen: Array<string> = []
      const elsewhere = yield* serving((request, response) => {
        seen.push(request.url ?? "")
        json({ ray_version: "2.60.0" })(request, response)
      })
      for (const status of [301, 302, 303, 307, 308]) {
        const address = yield* serving((_, response) => {
          response.writeHead(status, { location: `${elsewhere}/api/version` })
          response.end()
        })
        yield* asked(address, (cluster) =>
          Effect.gen(function*() {
            for (const { ask } of operations(cluster)) {
              const error = yield* Effect.flip(Effect.asVoid(ask))
              assert.strictEqual(error.reason._tag, ask === cluster.version ? "NotRay" : "Unexpected")
              assert.include(error.message, `with ${status}`)
            }
          }))
      }
      assert.deepStrictEqual(seen, [])
    }))

  it.live("says nothing to a terminal, nor the token, wherever its words are shown", () =>
    Effect.gen(function*() {
      const hostile =
        `\u001b]0;title\u0007\u001b[2J\u001b[31mred\u001b[0m\u0000\u0008\u009b1m\u202eback\r\nline\ttab ${token} `
        + `${token.slice(0, 9)}\u0000${token.slice(9)} \ud800`
      const plain = "redback\nline\ttab <token> <token> \ufffd"
      const failing = yield* serving(json(hostile, 500))
      const failed = yield* Effect.flip(asked(failing, ({ status }) => status("job")))
      assert.strictEqual(failed.reason._tag, "Unexpected")
      const raw = yield* serving((_, response) => {
        response.writeHead(500)
        response.end(hostile)
      })
      const rawFailed = yield* Effect.flip(asked(raw, ({ status }) => status("job")))
      assert.include(rawFailed.message, plain)
      for (const text of [failed.message, rawFailed.message, JSON.stringify(rawFailed)]) {
        assert.notInclude(text, token)
        // oxlint-disable-next-line no-control-regex
        assert.notMatch(text, /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202e]/)
      }
      const job = yield* serving(json({ submission_id: "job", status: "FAILED", message: hostile }))
      const info = yield* asked(job, ({ status }) => status("job"))
      assert.strictEqual(Option.getOrThrow(info).message, plain)
      const log = yield* serving(json({ logs: hostile }))
      assert.strictEqual(Option.getOrThrow(yield* asked(log, ({ logs }) => logs("job"))), plain)
      const version = yield* serving(json({ ray_version: "1.\u001b[31m0" }))
      assert.notInclude(
        (yield* Effect.flip(
          asked(version, (cluster) => Effect.provideService(RayCluster.check, RayCluster.RayCluster, cluster))
        )).message,
        "\u001b"
      )
    }))

  it.live("is told to be something else, with the setting that led there", () =>
    Effect.gen(function*() {
      const bodies = [
        "",
        "null",
        "[]",
        "{}",
        "<html>",
        "\u0000\u0001",
        "[".repeat(200_000),
        `{"version":"1.0","name":"somebody"}`,
        `{"ray_version":1}`,
        `{"ray_version":"${"9".repeat(1000)}"}`,
        `{"__proto__":{"ray_version":"2.60.0"}}`
      ]
      for (const body of bodies) {
        const address = yield* serving((_, response) => response.end(body))
        const error = yield* Effect.flip(asked(address, ({ version }) => version))
        assert.strictEqual(error.reason._tag, "NotRay", body.slice(0, 40))
        assert.match(error.message, /is not Ray: it answers GET \/api\/version with .* Set RAY_ADDRESS/)
        assert.isBelow(error.message.length, 400)
      }
      // A server of the right version may still be another.
      const address = yield* serving(json({ ray_version: "2.60.0", name: "another" }))
      yield* asked(address, (cluster) =>
        Effect.gen(function*() {
          yield* cluster.version
          const asks: ReadonlyArray<Effect.Effect<unknown, RayError>> = [
            cluster.status("job"),
            cluster.running,
            cluster.logs("job")
          ]
          for (const ask of asks) {
            const error = yield* Effect.flip(ask)
            assert.strictEqual(error.reason._tag, "NotRay")
            assert.match(error.message, /is not Ray: it answers GET \/api\/jobs\/.* Set RAY_ADDRESS/)
          }
        }))
      const failing = yield* serving(json("no", 500))
      const failed = yield* Effect.flip(asked(failing, ({ version }) => version))
      assert.match(failed.message, /is not Ray: it answers GET \/api\/version with 500. Set RAY_ADDRESS/)
      const raws = [
        { raw: "SSH-2.0-OpenSSH_9.2p1\r\n", is: "NotRay" },
        { raw: `HTTP/1.1 200 OK\r\nx: ${"x".repeat(1024 * 1024)}\r\n\r\n`, is: "NotRay" },
        { raw: "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n", is: "Unreachable" },
        { raw: "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort", is: "Unreachable" },
        { raw: "", is: "Unreachable" }
      ]
      for (const { is, raw } of raws) {
        const address = yield* listening(net.createServer((socket) => {
          socket.on("error", () => {})
          socket.once("data", () => socket.end(raw))
        }))
        const error = yield* Effect.flip(asked(address, ({ version }) => version))
        assert.strictEqual(error.reason._tag, is, raw.slice(0, 40))
        assert.include(error.message, "RAY_ADDRESS")
      }
    }))
})
