/**
 * The handlers of the TypeScript tasks. They run in Node hosts that Ray places.
 */
import { Effect, Layer } from "effect"
import { Handler } from "effect-ray"
import { firstInvalidByte, summarise } from "./statistics.ts"
import { Busy, NotText, Notify, Summarise, Watch } from "./tasks.ts"

export const SummariseLive = Summarise.toLayer(
  Effect.fn("Summarise")(function*({ bytes, path }) {
    const offset = firstInvalidByte(bytes)
    if (offset !== undefined) return yield* new NotText({ path, offset })
    const text = new TextDecoder().decode(bytes)
    // Change what is computed for a file here (and in `summarise`), run `make demo` again, and see the change run on
    // Ray.
    return summarise(text)
  })
)

export const NotifyLive = Notify.toLayer(
  Effect.fn("Notify")(function*() {
    const { attempt } = yield* Handler.Attempt
    if (attempt === 1) return yield* new Busy({ attempt })
    return { deliveredAtAttempt: attempt }
  })
)

export const WatchLive = Watch.toLayer(() => Effect.never)

export const HandlersLive = Layer.mergeAll(SummariseLive, NotifyLive, WatchLive)
