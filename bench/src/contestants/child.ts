/**
 * A contestant's process, from the bench's side: it starts in a scope and ends with it.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { type ChildProcess, fork } from "node:child_process"
import { fileURLToPath } from "node:url"
import type { Command, Message } from "./protocol.ts"

/** A contestant's process failed; nothing was measured. */
export class ContestantFailed extends Schema.TaggedError<ContestantFailed>()("ContestantFailed", {
  module: Schema.String,
  detail: Schema.String
}) {
  override get message() {
    return `${this.module}: ${this.detail}`
  }
}

export interface Child {
  /** Sends a command, and returns how many milliseconds it took there. One at a time. */
  readonly ask: (command: Command) => Effect.Effect<number, ContestantFailed>
  /** When handlers started, by the machine's monotonic clock. */
  readonly handled: Queue.Dequeue<bigint>
}

/** Starts the module, which calls `serve`, and waits until it is ready. */
export const start = Effect.fnUntraced(function*(
  module: string,
  databaseUrl: Redacted.Redacted
): Effect.fn.Return<Child, ContestantFailed, Scope.Scope> {
  const file = fileURLToPath(new URL(module, import.meta.url))
  const handled = yield* Queue.unbounded<bigint>()
  let answer = Deferred.makeUnsafe<number, ContestantFailed>()
  const child = yield* Effect.acquireRelease(
    // The same flags as ours, so that the process also reads the workspace's packages from their sources.
    Effect.sync(() => fork(file, [Redacted.value(databaseUrl)], { stdio: ["ignore", "inherit", "inherit", "ipc"] })),
    end
  )
  const fail = (detail: string) => Deferred.doneUnsafe(answer, Effect.fail(new ContestantFailed({ module, detail })))
  child.on("error", (error) => fail(error.message))
  child.on("exit", (code, signal) => fail(`the process ended (${signal ?? code})`))
  child.on("message", (message: Message) => {
    switch (message._tag) {
      case "Ready":
        return Deferred.doneUnsafe(answer, Effect.succeed(0))
      case "Done":
        return Deferred.doneUnsafe(answer, Effect.succeed(message.millis))
      case "Handled":
        return Queue.offerUnsafe(handled, BigInt(message.at))
      case "Broken":
        return fail(message.detail)
    }
  })
  yield* Deferred.await(answer)
  const ask = (command: Command) =>
    Effect.suspend(() => {
      answer = Deferred.makeUnsafe()
      child.send(command)
      return Deferred.await(answer)
    })
  return { ask, handled }
})

/** The process ends itself when the channel closes. */
const end = (child: ChildProcess): Effect.Effect<void> =>
  Effect.callback((resume) => {
    if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return resume(Effect.void)
    child.once("exit", () => resume(Effect.void))
    if (child.connected) child.disconnect()
  })
