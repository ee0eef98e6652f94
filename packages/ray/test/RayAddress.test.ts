import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as RayAddress from "../src/RayAddress.ts"

const refused = (address: string) => Effect.map(Effect.flip(RayAddress.resolve(address)), (error) => error.message)

describe("RayAddress", () => {
  it.effect("takes the URL of a dashboard", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* RayAddress.resolve("http://127.0.0.1:8265/"), {
        url: "http://127.0.0.1:8265",
        loopback: true
      })
      assert.isFalse((yield* RayAddress.resolve("https://10.1.2.3:8265")).loopback)
      assert.isTrue((yield* RayAddress.resolve("http://[::1]:8265")).loopback)
    }))

  it.effect("refuses Ray Client's and bare addresses, saying what to write", () =>
    Effect.gen(function*() {
      for (const address of ["ray://head:10001", "127.0.0.1:6379", "auto", ""]) {
        const message = yield* refused(address)
        assert.include(message, JSON.stringify(address))
        assert.include(message, "http://127.0.0.1:8265")
      }
    }))

  it.effect("refuses addresses outside private networks until there is TLS", () =>
    Effect.gen(function*() {
      assert.include(yield* refused("http://8.8.8.8:8265"), "not in a private network")
      assert.include(yield* refused("http://172.32.0.1:8265"), "not in a private network")
    }))

  it.effect("refuses passwords and paths", () =>
    Effect.gen(function*() {
      assert.include(yield* refused("http://me:secret@127.0.0.1:8265"), "RAY_AUTH_TOKEN")
      assert.include(yield* refused("http://127.0.0.1:8265/dashboard"), "more parts than scheme")
    }))
})
