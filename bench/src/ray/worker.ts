/** What runs in the hosts on Ray. The bare actor that it is measured beside answers the same. */
import { Task, Worker } from "effect-ray"
import { Effect, Schema } from "effect"

const Value = Schema.Struct({ id: Schema.Int })

export class Echo extends Task.make("Echo", {
  payload: Value,
  success: Value,
  queue: "ray",
  placement: { concurrency: 500, maxHosts: 1 }
}) {}

export default Worker.make({ tasks: [Echo], handlers: Echo.toLayer((value) => Effect.succeed(value)) })
