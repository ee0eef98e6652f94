import * as RayCluster from "@effect-ray/ray/RayCluster"
import { assert, describe, it } from "@effect/vitest"
import * as Settings from "effect-ray/Settings"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import * as runners from "../src/internal/runners.ts"

const address = "http://10.255.255.1:8265"

/** The address of a cluster that was accepted: nothing is sent to it. */
const accepted = Effect.fnUntraced(function*(flags: Settings.Flags) {
  const settings = yield* Settings.load({ keys: ["allowOpenCluster"], flags })
  const cluster = runners.cluster(settings, { address, token: Option.none() })
  return yield* Effect.provide(Effect.map(RayCluster.RayCluster, (cluster) => cluster.address), cluster)
})

/** Variables for as long as the scope is open; undefined for none. */
const variables = (given: Readonly<Record<string, string | undefined>>) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const saved = Object.fromEntries(Object.keys(given).map((name) => [name, process.env[name]]))
      set(given)
      return saved
    }),
    (saved) => Effect.sync(() => set(saved))
  )

const set = (values: Readonly<Record<string, string | undefined>>): void => {
  for (const [name, value] of Object.entries(values)) {
    if (value === undefined) delete process.env[name]
    else process.env[name] = value
  }
}

describe("a Ray cluster without a token", () => {
  it.effect("is refused when it is not on loopback, and used where the settings allow it", () =>
    Effect.gen(function*() {
      const home = fs.mkdtempSync(path.join(os.tmpdir(), "effect-ray-home-"))
      yield* Effect.addFinalizer(() => Effect.sync(() => fs.rmSync(home, { recursive: true })))
      yield* variables({ HOME: home, RAY_AUTH_TOKEN: undefined, RAY_AUTH_TOKEN_PATH: undefined })

      const refused = yield* Effect.flip(accepted({ allowOpenCluster: "false" }))
      assert.match(refused.message, /EFFECT_RAY_ALLOW_OPEN_CLUSTER=true \(or --allow-open-cluster/)
      assert.strictEqual(yield* accepted({ allowOpenCluster: "true" }), address)
    }))
})
