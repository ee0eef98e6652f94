/** The worker of the Ray rows: handlers that return their payload. */
import { Task, Worker } from "effect-ray"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"

export class Echo extends Task.make("Echo", {
  payload: Schema.String,
  success: Schema.String,
  // As many slots as calls are in flight, in two hosts.
  placement: { concurrency: 250, maxHosts: 2 }
}) {}

/** On the host's main thread: a placement for handlers that never block. */
export class EchoMain extends Task.make("EchoMain", {
  payload: Schema.String,
  success: Schema.String,
  placement: { concurrency: 250, maxHosts: 1, cpus: 0, thread: "main" }
}) {}

export default Worker.make({
  tasks: [Echo, EchoMain],
  handlers: Layer.mergeAll(
    Echo.toLayer((text) => Effect.succeed(text)),
    EchoMain.toLayer((text) => Effect.succeed(text))
  )
})
