/**
 * Runs attempts in this thread. It receives RUN and CANCEL frames and sends RESULT frames.
 *
 * The worker's layer is built once. No frame is sent when an attempt begins. Instead `begun` counts the attempts in
 * memory that it shares with the host's main thread, which can read it even while a handler blocks this thread.
 */
import * as Handler from "@effect-ray/core/Handler"
import * as Limits from "@effect-ray/core/Limits"
import { Ended } from "@effect-ray/core/Outcome"
import * as TaskError from "@effect-ray/core/TaskError"
import type { Worker } from "@effect-ray/core/Worker"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Frame from "../Frame.ts"
import { toResult } from "../internal/ended.ts"
import { cureOf } from "./cure.ts"
import type { Orders } from "./orders.ts"
import { Told } from "./told.ts"

export interface Executor {
  /** Receives whole frames. Their buffer belongs to the executor from now on. */
  readonly push: (frames: Buffer) => void
  /** Interrupts the running attempts and releases the worker's layer. */
  readonly close: () => Promise<void>
}

export interface Options {
  /** The limits on payloads and results, and the grace. */
  readonly limits: Orders["limits"]
  /** Element 0 counts the attempts that have begun. */
  readonly begun: Int32Array
  /** Sends frames to the main thread. */
  readonly emit: (frames: Array<Buffer>) => void
}

/** The header of a RUN body. `docs/gateway-protocol.md`, RUN bodies. */
const Header = Schema.Struct({
  task: Schema.String,
  attempt: Schema.Int,
  queue: Schema.String,
  traceparent: Schema.optionalKey(Schema.String)
})

// A check takes half the time of a decoder, and the decoder would change nothing. It runs for every attempt.
const isHeader = Schema.is(Header)

const lineFeed = 10

/** Splits a RUN body. Throws if the header cannot be read, which no supervisor of this version sends. */
const readRun = (body: Buffer): { readonly header: typeof Header.Type; readonly payload: string } => {
  const end = body.indexOf(lineFeed)
  const header: unknown = JSON.parse(body.toString("utf8", 0, end))
  if (!isHeader(header)) throw new Error("a field is missing")
  return { header, payload: body.toString("utf8", end + 1) }
}

/** Describes why the worker's layer failed, with its causes. */
const notBuilt = (cause: Cause.Cause<unknown>): Told => {
  const defect = Handler.defect(cause)
  const cure = cureOf(Cause.squash(cause))
  const words = TaskError.describe(defect)
  return new Told(cure === undefined ? words : `${words}\n${cure}`, defect.stack)
}

export const make = async (worker: Worker, options: Options): Promise<Executor> => {
  const scope = Scope.makeUnsafe()
  const base = Layer.mergeAll(
    Logger.layer([Logger.consoleJson]),
    Layer.succeed(Limits.MaxResultBytes, options.limits.maxResultBytes)
  )
  const built = await Effect.runPromiseExit(
    Layer.build(base).pipe(
      Effect.flatMap((context) =>
        Effect.map(Effect.provideContext(Handler.build(worker), context), (services) => ({ context, services }))
      ),
      Scope.provide(scope)
    )
  )
  if (Exit.isFailure(built)) throw notBuilt(built.cause)
  const { context, services } = built.value
  const runFork = Effect.runForkWith(context)

  const running = new Map<bigint, { readonly fiber: Fiber.Fiber<Ended>; stopped: boolean }>()
  const writer = new Frame.Writer(options.emit)
  const assembler = new Frame.Assembler(options.limits.maxPayloadBytes + 64 * 1024)

  const finish = (to: Buffer, ended: Ended): void => {
    const { kind, text } = toResult(ended)
    writer.frame({ type: Frame.Type.RESULT, flags: Frame.kindFlags(kind), route: 0, to }, text)
  }

  const run = (frame: Frame.Frame, body: Buffer): void => {
    const call = frame.wholeCall
    const to = Buffer.from(frame.buffer.subarray(frame.at, frame.at + Frame.headerBytes))
    Atomics.add(options.begun, 0, 1)
    let input: ReturnType<typeof readRun>
    try {
      input = readRun(body)
    } catch (error) {
      // If this threw, it would end all attempts of this thread.
      return finish(to, Ended.Died({ reason: unreadable(error) }))
    }
    const { attempt, queue, task, traceparent } = input.header
    const service = services.get(task)
    if (service === undefined) {
      return finish(to, Ended.Died({ reason: unknownTask(task, Array.from(services.keys())) }))
    }
    const fiber = runFork(service.run({
      executionId: frame.execution,
      queue,
      attempt,
      payload: input.payload,
      traceparent: Option.fromNullishOr(traceparent)
    }))
    const entry = { fiber, stopped: false }
    running.set(call, entry)
    fiber.addObserver((exit) => {
      running.delete(call)
      const about = { task, execution: frame.execution, attempt }
      finish(to, Handler.endOf(exit, entry.stopped, (line) => runFork(Effect.annotateLogs(line, about))))
    })
  }

  const stop = (call: bigint): void => {
    const entry = running.get(call)
    if (entry === undefined) return
    entry.stopped = true
    entry.fiber.interruptUnsafe()
  }

  const decoder = new Frame.Decoder((frame) => {
    if (frame.type === Frame.Type.CANCEL) return stop(frame.wholeCall)
    const body = assembler.add(frame)
    if (body !== undefined) run(frame, body)
  })

  return {
    push: (frames) => decoder.push(frames),
    close: () => {
      for (const call of Array.from(running.keys())) stop(call)
      return Effect.runPromise(Scope.close(scope, Exit.void))
    }
  }
}

const unreadable = (error: unknown) =>
  new TaskError.Defect({
    name: "UnreadableRun",
    detail: `the header of a RUN cannot be read: ${String(error)}`,
    stack: ""
  })

const unknownTask = (task: string, known: ReadonlyArray<string>) =>
  new TaskError.Defect({
    name: "UnknownTask",
    detail: `this worker has no handler for ${JSON.stringify(task)}; it has ${known.join(", ") || "none"}`,
    stack: ""
  })
