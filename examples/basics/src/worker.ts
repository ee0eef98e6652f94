/**
 * What a worker serves. Run it with `effect-ray worker examples/basics/src/worker.ts`.
 */
import { Worker } from "effect-ray"
import { HandlersLive } from "./handlers.ts"
import { Add, CpuIntensive, Echo, Failing, Multiply, Slow } from "./tasks.ts"

export default Worker.make({
  tasks: [Add, Multiply, Slow, Failing, Echo, CpuIntensive],
  handlers: HandlersLive
})
