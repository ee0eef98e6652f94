/** Starts the servers of a run, once for all test files. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import type { TestProject } from "vitest/node"
import { start, versions } from "./servers.ts"

declare module "vitest" {
  export interface ProvidedContext {
    /** The URL of the server, by version. */
    readonly postgresServers: Readonly<Record<string, string>>
  }
}

export default async ({ provide }: TestProject) => {
  const scope = Scope.makeUnsafe()
  const stop = () => Effect.runPromise(Scope.close(scope, Exit.void))
  try {
    const servers = await Effect.runPromise(
      Effect.forEach(
        versions,
        (version) => Effect.map(start(version), ({ url }) => [version, Redacted.value(url)] as const),
        {
          concurrency: "unbounded"
        }
      ).pipe(Scope.provide(scope))
    )
    provide("postgresServers", Object.fromEntries(servers))
  } catch (error) {
    await stop()
    throw error
  }
  return stop
}
