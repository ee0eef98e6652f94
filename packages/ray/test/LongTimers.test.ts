/** Durations that are longer than a timer takes. */
import * as GatewayRegistry from "@effect-ray/core/GatewayRegistry"
import * as Task from "@effect-ray/core/Task"
import * as Worker from "@effect-ray/core/Worker"
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { setTimeout as sleep } from "node:timers/promises"
import * as Frame from "../src/Frame.ts"
import type { HandlerThread } from "../src/host/handlerThread.ts"
import { HandlerThreads } from "../src/host/handlerThreads.ts"
import { Flights } from "../src/internal/flights.ts"
import { RayPools } from "../src/internal/rayPools.ts"
import * as RayCluster from "../src/RayCluster.ts"
import * as RayRunner from "../src/RayRunner.ts"

class Some extends Task.make("Some") {}

const limits = { maxResultBytes: 1_000_000, maxPayloadBytes: 1_000_000, graceMillis: 5_000 }

const longer: ReadonlyArray<Duration.Duration> = [Duration.days(25), Duration.days(100_000), Duration.infinity]

describe("A duration of more than 24.8 days", () => {
  for (const duration of longer) {
    it(`is waited for a gateway: ${Duration.format(duration)}`, async () => {
      const pools = new RayPools([Some], { env: [], limits, packageOf: () => "gcs://none" })
      const patienceMillis = Duration.toMillis(duration)
      const flights = new Flights({ pools, maxPayloadBytes: 1_000, graceMillis: 5_000, patienceMillis })
      flights.abandon()
      const flight = flights.start({
        execution: "0198c5a4-1b2c-7d3e-8f40-5a6b7c8d9e0f",
        fence: 1,
        task: Some,
        queue: "default",
        priority: 5,
        attempt: 1,
        payload: "null",
        traceparent: Option.none(),
        suspect: false,
        onStart: () => {}
      })
      await sleep(20)
      assert.isUndefined(flight.ended)
      flights.close()
    })

    it(`is granted to an attempt that is to stop: ${Duration.format(duration)}`, async () => {
      const probed: Array<string> = []
      const thread: HandlerThread = {
        begun: new Int32Array(new SharedArrayBuffer(4)),
        given: 0,
        running: 0,
        ready: Promise.resolve(),
        replaceable: true,
        writer: new Frame.Writer(() => {}),
        probe: () => probed.push("probe"),
        terminate: () => probed.push("terminate"),
        close: () => Promise.resolve()
      }
      const threads = new HandlerThreads(1, () => thread, () => {})
      const header = {
        flags: 0,
        route: 0,
        supervisor: 1,
        call: 7,
        execution: "0198c5a4-1b2c-7d3e-8f40-5a6b7c8d9e0f",
        fence: 1
      }
      const frame = (type: number, body: string) => {
        const bytes = Frame.encode({ ...header, type }, body)
        return new Frame.Frame(bytes, 0, bytes.length)
      }
      const run = frame(Frame.Type.RUN, "{}\nnull")
      threads.run(run)
      Atomics.add(thread.begun, 0, 1)
      const graceMillis = Math.min(Duration.toMillis(duration), Number.MAX_SAFE_INTEGER)
      threads.cancel(frame(Frame.Type.CANCEL, JSON.stringify({ graceMillis })))
      await sleep(20)
      assert.deepStrictEqual(probed, [])
      assert.isTrue(threads.ended(run))
    })

    for (const name of ["grace", "lease"] as const) {
      it.effect(`is refused as ${name}, which no gateway takes: ${Duration.format(duration)}`, () =>
        Effect.gen(function*() {
          const runner = RayRunner.layer({
            worker: Worker.make({ tasks: [Some], handlers: Some.toLayer(() => Effect.void) }),
            module: import.meta.filename,
            [name]: duration
          }).pipe(
            Layer.provide(RayCluster.layer({ address: "http://127.0.0.1:1" })),
            Layer.provide(GatewayRegistry.layerMemory)
          )
          const exit = yield* Effect.exit(Effect.scoped(Layer.build(runner)))
          assert(Exit.isFailure(exit))
          assert.include(
            Cause.pretty(exit.cause),
            `RayRunner.layer: ${name} is ${Duration.format(duration)}: expected a duration of at most 1h`
          )
        }))
    }
  }
})
