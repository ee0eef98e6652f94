import * as RayCluster from "@effect-ray/ray/RayCluster"
import { assert, describe, it } from "@effect/vitest"
import * as Settings from "effect-ray/Settings"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as runners from "../src/internal/runners.ts"

const address = "http://10.255.255.1:8265"

/** The address of a cluster that was accepted: nothing is sent to it. */
const accepted = Effect.fnUntraced(function*(flags: Settings.Flags) {
  const settings = yield* Settings.load({ keys: ["allowOpenCluster"], flags })
  const cluster = runners.cluster(settings, { address, token: Option.none() })
  return yield* Effect.provide(Effect.map(RayCluster.RayCluster, (cluster) => cluster.address), cluster)
})

describe("a Ray cluster without a token", () => {
  it.effect("is refused when it is not on loopback, and used where the settings allow it", () =>
    Effect.gen(function*() {
      const saved = process.env
      yield* Effect.addFinalizer(() => Effect.sync(() => void (process.env = saved)))
      process.env = { ...saved, RAY_AUTH_TOKEN: "", RAY_AUTH_TOKEN_PATH: "/nowhere/token" }

      const refused = yield* Effect.flip(accepted({ allowOpenCluster: "false" }))
      assert.match(refused.message, /EFFECT_RAY_ALLOW_OPEN_CLUSTER=true \(or --allow-open-cluster/)
      assert.strictEqual(yield* accepted({ allowOpenCluster: "true" }), address)
    }))
})
