import { Handler, Worker } from "effect-ray"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Chatter, Endless, Flaky, Sum, Unlucky } from "./tasks.ts"

const lines = 20

export default Worker.make({
  tasks: [Chatter, Flaky, Endless, Sum],
  handlers: Layer.mergeAll(
    Chatter.toLayer(
      Effect.fn("Chatter")(function*({ n }) {
        for (let line = 0; line < lines; line++) yield* Effect.logInfo(`line ${line} of ${n}`)
        return "x".repeat(n % 4_096)
      })
    ),
    Flaky.toLayer(
      Effect.fn("Flaky")(function*({ n }) {
        const { attempt } = yield* Handler.Attempt
        return attempt < 3 ? yield* new Unlucky({ n }) : n
      })
    ),
    Endless.toLayer(() => Effect.never)
  ),
  python: "../python"
})
