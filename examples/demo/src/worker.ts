/**
 * What the demo's worker serves: three tasks in TypeScript, and one in Python from the folder `python`.
 */
import { Worker } from "effect-ray"
import { HandlersLive } from "./handlers.ts"
import { Compare, Notify, Summarise, Watch } from "./tasks.ts"

export default Worker.make({
  tasks: [Summarise, Notify, Watch, Compare],
  handlers: HandlersLive,
  python: "../python"
})
