import { assert, describe, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as fs from "node:fs"
import * as path from "node:path"
import * as Bundle from "../src/Bundle.ts"
import * as RayCluster from "../src/RayCluster.ts"
import { ClusterLive, eventually, newDeployment, ray, tempFolder } from "./support.ts"

const text = (content: string) => new TextEncoder().encode(content)

const reasonOf = <A, R>(effect: Effect.Effect<A, { readonly reason: { readonly _tag: string } }, R>) =>
  Effect.map(Effect.flip(effect), (error) => error.reason._tag)

layer(ClusterLive, { excludeTestServices: true })("RayCluster", (it) => {
  it.effect("knows the cluster's version", () =>
    Effect.gen(function*() {
      assert.isTrue(RayCluster.isSupported(yield* RayCluster.check))
    }))

  it.effect("uploads a package once", () =>
    Effect.gen(function*() {
      const cluster = yield* RayCluster.RayCluster
      const zip = yield* Bundle.pack({ "hello.txt": { content: text(newDeployment()) } })
      assert.isFalse(yield* cluster.pinPackage(`gcs://${RayCluster.packageName(zip)}`))
      const uri = yield* cluster.uploadPackage(zip)
      assert.isTrue(yield* cluster.pinPackage(uri))
      assert.strictEqual(yield* cluster.uploadPackage(zip), uri)
    }))

  it.effect("runs a job in a package and reads its log", () =>
    Effect.gen(function*() {
      const cluster = yield* RayCluster.RayCluster
      const submissionId = newDeployment()
      const zip = yield* Bundle.pack({ "main.py": { content: text("import os\nprint('word', os.environ['WORD'])\n") } })
      const workingDir = yield* cluster.uploadPackage(zip)
      const submission = { submissionId, entrypoint: "python main.py", workingDir, env: { WORD: "hello" } }
      yield* cluster.submit(submission)
      assert.strictEqual(yield* reasonOf(cluster.submit(submission)), "AlreadyExists")
      const job = yield* eventually(
        Effect.flatMap(cluster.status(submissionId), Effect.fromOption),
        ({ status }) => RayCluster.isTerminal(status)
      )
      assert.strictEqual(job.status, "SUCCEEDED", job.message)
      assert.include(Option.getOrThrow(yield* cluster.logs(submissionId)), "word hello")
      yield* cluster.delete(submissionId)
      assert.isTrue(Option.isNone(yield* cluster.status(submissionId)))
    }))

  it.effect("keeps on the cluster what a Python folder's links lead to, and what may be executed", () =>
    Effect.gen(function*() {
      const cluster = yield* RayCluster.RayCluster
      const folder = yield* tempFolder
      const elsewhere = yield* tempFolder
      fs.writeFileSync(path.join(elsewhere, "word"), "linked")
      fs.writeFileSync(path.join(folder, "tool"), "#!/bin/sh\ncat words/word\n", { mode: 0o755 })
      fs.symlinkSync(elsewhere, path.join(folder, "words"))
      const workingDir = yield* cluster.uploadPackage(yield* Bundle.python(folder))
      const submissionId = newDeployment()
      yield* cluster.submit({ submissionId, entrypoint: "exec ./tool", workingDir })
      const job = yield* eventually(
        Effect.flatMap(cluster.status(submissionId), Effect.fromOption),
        ({ status }) => RayCluster.isTerminal(status)
      )
      assert.strictEqual(job.status, "SUCCEEDED", job.message)
      assert.include(Option.getOrThrow(yield* cluster.logs(submissionId)), "linked")
    }))

  it.effect("stops a job, and leaves unknown ones alone", () =>
    Effect.gen(function*() {
      const cluster = yield* RayCluster.RayCluster
      const submissionId = newDeployment()
      yield* cluster.submit({ submissionId, entrypoint: "exec sleep 600" })
      yield* eventually(
        Effect.flatMap(cluster.status(submissionId), Effect.fromOption),
        ({ status }) => status === "RUNNING"
      )
      yield* cluster.stop(submissionId)
      yield* eventually(
        Effect.flatMap(cluster.status(submissionId), Effect.fromOption),
        ({ status }) => status === "STOPPED"
      )
      const unknown = newDeployment()
      yield* cluster.stop(unknown)
      assert.isTrue(Option.isNone(yield* cluster.status(unknown)))
      assert.isTrue(Option.isNone(yield* cluster.logs(unknown)))
    }))
})

describe("RayCluster, elsewhere", () => {
  it.live("says so when the token is wrong", () =>
    Effect.gen(function*() {
      if (ray.token === "") return
      const wrong = RayCluster.layer({ address: ray.address, token: Redacted.make("0".repeat(64)) })
      const error = yield* Effect.flip(Effect.provide(RayCluster.check, wrong))
      assert.strictEqual(error.reason._tag, "Unauthorized")
      assert.notInclude(JSON.stringify(error), "0".repeat(64))
    }))

  it.live("says so when nothing answers", () =>
    Effect.gen(function*() {
      const nowhere = RayCluster.layer({ address: "http://127.0.0.1:1" })
      const error = yield* Effect.flip(Effect.provide(RayCluster.check, nowhere))
      assert.strictEqual(error.reason._tag, "Unreachable")
      assert.include(error.message, "http://127.0.0.1:1")
    }))

  it.live("refuses a cluster that is open to its network, unless told to use it", () =>
    Effect.gen(function*() {
      const path = process.env["RAY_AUTH_TOKEN_PATH"]
      const token = process.env["RAY_AUTH_TOKEN"]
      process.env["RAY_AUTH_TOKEN_PATH"] = "/dev/null"
      delete process.env["RAY_AUTH_TOKEN"]
      yield* Effect.addFinalizer(() =>
        Effect.sync(() => {
          if (path === undefined) delete process.env["RAY_AUTH_TOKEN_PATH"]
          else process.env["RAY_AUTH_TOKEN_PATH"] = path
          if (token !== undefined) process.env["RAY_AUTH_TOKEN"] = token
        })
      )
      const options = { address: "http://10.255.255.1:8265" }
      const open = Effect.map(RayCluster.RayCluster, ({ address }) => address)
      assert.strictEqual(yield* reasonOf(Effect.provide(open, RayCluster.layer(options))), "InvalidAddress")
      assert.strictEqual(
        yield* Effect.provide(open, RayCluster.layer({ ...options, allowOpen: true })),
        options.address
      )
      assert.strictEqual(
        yield* Effect.provide(open, RayCluster.layer({ ...options, token: Redacted.make("t") })),
        options.address
      )
    }))

  it.live("says that the token's file cannot be read", () =>
    Effect.gen(function*() {
      const { RAY_AUTH_TOKEN: token, RAY_AUTH_TOKEN_PATH: path } = process.env
      delete process.env["RAY_AUTH_TOKEN"]
      process.env["RAY_AUTH_TOKEN_PATH"] = "/nowhere/token"
      yield* Effect.addFinalizer(() =>
        Effect.sync(() => {
          delete process.env["RAY_AUTH_TOKEN_PATH"]
          Object.assign(process.env, token === undefined ? {} : { RAY_AUTH_TOKEN: token })
          Object.assign(process.env, path === undefined ? {} : { RAY_AUTH_TOKEN_PATH: path })
        })
      )
      const layer = RayCluster.layer({ address: "http://127.0.0.1:1" })
      const error = yield* Effect.flip(Effect.provide(RayCluster.check, layer))
      assert.include(error.message, "RAY_AUTH_TOKEN_PATH cannot be read")
      assert.include(error.message, "/nowhere/token")
    }))

  it("needs Ray 2.54 or newer", () => {
    assert.deepStrictEqual(["2.53.9", "2.54.0", "2.60.0", "3.0.0.dev0", "1.99.0"].map(RayCluster.isSupported), [
      false,
      true,
      true,
      true,
      false
    ])
  })
})
