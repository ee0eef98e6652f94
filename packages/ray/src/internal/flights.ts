/** All attempts of a runner that are on their way, and the gateway that has them. */
import { Ended } from "@effect-ray/core/Outcome"
import type * as Runner from "@effect-ray/core/Runner"
import type * as Task from "@effect-ray/core/Task"
import { Undecodable } from "@effect-ray/core/TaskError"
import type { Pool } from "../GatewayConnection.ts"
import { Flight, type Sky } from "./flight.ts"
import { poolBody, type PoolOptions, type Runtime } from "./poolBody.ts"
import { runBody } from "./runBody.ts"
import type { Session } from "./session.ts"

/** What all pools of a worker have in common. */
export interface Options extends Pick<PoolOptions, "env" | "limits"> {
  readonly packageOf: (runtime: Runtime) => string
}

type Acknowledged = Pick<Runner.Attempt, "execution" | "fence">

export class Flights implements Sky {
  private readonly options: Options
  private readonly poolKeys = new WeakMap<Task.Any, string>()
  /** Ended and not acknowledged, by execution. */
  private readonly unacknowledged = new Map<string, Flight>()
  /** Those that no gateway has. */
  private readonly waiting = new Set<Flight>()
  private session: Session | undefined

  constructor(options: Options) {
    this.options = options
  }

  /** The session in use, while there is one. */
  get current(): Session | undefined {
    return this.session
  }

  /** Takes a gateway into use and gives it what waits. */
  adopt(session: Session): void {
    this.session = session
    const flights = Array.from(this.waiting)
    this.waiting.clear()
    for (const flight of flights) this.launch(flight)
  }

  /** The gateway is gone: what is launched from now on waits for the next one. */
  abandon(): void {
    this.session = undefined
  }

  /** Sends an attempt on its way. */
  start(attempt: Runner.Attempt): Flight {
    const flight = new Flight(attempt, this)
    const tooLarge = this.tooLarge(attempt)
    if (tooLarge === undefined) this.launch(flight)
    else flight.end(tooLarge)
    return flight
  }

  launch(flight: Flight): void {
    const { session } = this
    // A connection may have ended between two looks at it.
    if (session === undefined || session.connection.isClosed) {
      this.waiting.add(flight)
      return
    }
    const { attempt } = flight
    flight.session = session
    flight.call = session.connection.call({
      pool: this.poolOf(session, attempt.task),
      execution: attempt.execution,
      fence: attempt.fence,
      body: runBody(attempt),
      alone: attempt.suspect,
      owner: flight
    })
  }

  landed(flight: Flight): void {
    const earlier = this.unacknowledged.get(flight.attempt.execution)
    if (earlier !== undefined) this.forget(earlier)
    this.unacknowledged.set(flight.attempt.execution, flight)
  }

  /** Asks for an attempt to be stopped. What comes of it is its end. */
  cancel(flight: Flight): void {
    if (flight.ended !== undefined) return
    flight.cancelled = true
    if (this.waiting.delete(flight)) return flight.end(Ended.Interrupted({ confirmed: true }))
    const { call, session } = flight
    if (call === undefined || session === undefined) return
    if (!session.connection.cancel(call, this.options.limits.graceMillis)) {
      flight.end(Ended.Interrupted({ confirmed: true }))
    }
  }

  /** The end is of no interest any more. */
  discard(flight: Flight): void {
    if (flight.call !== undefined) flight.session?.connection.discard(flight.call)
  }

  /** These ends are recorded: the gateway may forget them. */
  acknowledge(attempts: ReadonlyArray<Acknowledged>): void {
    for (const { execution, fence } of attempts) {
      const flight = this.unacknowledged.get(execution)
      if (flight?.attempt.fence === fence) this.forget(flight)
    }
  }

  private forget(flight: Flight): void {
    this.unacknowledged.delete(flight.attempt.execution)
    // Another gateway knows nothing of it.
    if (flight.session === this.session) this.session?.connection.acknowledge(flight.call!.number)
  }

  private poolOf(session: Session, task: Task.Any): Pool {
    let key = this.poolKeys.get(task)
    if (key === undefined) {
      this.poolKeys.set(task, key = `${task.runtime}:${JSON.stringify(task.options.placement)}`)
    }
    let pool = session.pools.get(key)
    if (pool === undefined) {
      const { env, limits, packageOf } = this.options
      const runtime: Runtime = task.runtime === "python" ? "python" : "node"
      const { placement } = task.options
      pool = session.connection.open(poolBody({ runtime, package: packageOf(runtime), placement, env, limits }))
      session.pools.set(key, pool)
    }
    return pool
  }

  /** No gateway takes such a payload: it ends a connection, with all that is pending on it. */
  private tooLarge({ payload }: Runner.Attempt): Ended | undefined {
    const { maxPayloadBytes } = this.options.limits
    if (payload.length * 3 <= maxPayloadBytes) return undefined
    const bytes = Buffer.byteLength(payload)
    if (bytes <= maxPayloadBytes) return undefined
    return Ended.Died({
      reason: new Undecodable({
        what: "payload",
        detail: `it has ${bytes} bytes and this worker takes ${maxPayloadBytes} (EFFECT_RAY_MAX_PAYLOAD_BYTES)`
      })
    })
  }
}
