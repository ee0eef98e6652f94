/** One Ray for all files of a run: the cluster at `RAY_ADDRESS`, or a local head that ends with the run. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import type { TestProject } from "vitest/node"
import * as LocalRay from "../src/LocalRay.ts"

declare module "vitest" {
  export interface ProvidedContext {
    readonly ray: {
      readonly address: string
      /** Empty for a cluster without a token. */
      readonly token: string
      /** Of a local head; empty for a cluster that was there before. */
      readonly stateFolder: string
    }
  }
}

/** As many files as run at once, each with room for some hosts. */
const maxFiles = 3

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const { RAY_ADDRESS, RAY_AUTH_TOKEN } = process.env
  if (RAY_ADDRESS !== undefined && RAY_ADDRESS !== "") {
    project.provide("ray", { address: RAY_ADDRESS, token: RAY_AUTH_TOKEN ?? "", stateFolder: "" })
    return () => Promise.resolve()
  }
  const stateFolder = fs.mkdtempSync(path.join(os.tmpdir(), "effect-ray-state-"))
  const scope = Scope.makeUnsafe()
  // Files run side by side, and a gateway whose hosts find no room waits for those of others: a minute was lost by that.
  const local = await Effect.runPromise(LocalRay.make({ stateFolder, cpus: 4 * maxFiles }).pipe(Scope.provide(scope)))
  project.provide("ray", { address: local.address, token: Redacted.value(local.token), stateFolder })
  return async () => {
    await Effect.runPromise(Scope.close(scope, Exit.void))
    fs.rmSync(stateFolder, { recursive: true, force: true })
  }
}
