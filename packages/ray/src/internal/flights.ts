/** All attempts of a runner that are on Ray, and the session with the gateway that has them. */
import { Ended } from "@effect-ray/core/Outcome"
import * as Runner from "@effect-ray/core/Runner"
import * as Timer from "@effect-ray/core/Timer"
import { Flight, type Sky } from "./flight.ts"
import type { RayPools } from "./rayPools.ts"
import { runBody } from "./runBody.ts"
import type { Session } from "./session.ts"

const withoutGateway = Ended.NotStarted({
  obstacle: { kind: "unreachable", detail: "it waited for a gateway, but there was none" }
})

export interface Options {
  /** The pools of the worker's tasks. */
  readonly pools: RayPools
  /** The longest payload that is sent, in bytes. */
  readonly maxPayloadBytes: number
  /** How long an interrupted attempt may take to end, in milliseconds. */
  readonly graceMillis: number
  /** How long attempts wait for a gateway before they go back, in milliseconds. */
  readonly patienceMillis: number
}

type Acknowledged = Pick<Runner.Attempt, "execution" | "fence">

export class Flights implements Sky {
  private readonly options: Options
  /** Attempts that have ended but are not acknowledged, by execution. */
  private readonly unacknowledged = new Map<string, Flight>()
  /** Attempts that no gateway has. */
  private readonly waiting = new Set<Flight>()
  private session: Session | undefined
  private patience: NodeJS.Timeout | undefined

  constructor(options: Options) {
    this.options = options
  }

  /** The current session, if there is one. */
  get current(): Session | undefined {
    return this.session
  }

  /** Starts to use a session, and sends it the attempts that wait. */
  adopt(session: Session): void {
    clearTimeout(this.patience)
    this.session = session
    const { pools } = this.options
    for (const pool of pools.all) session.pools.set(pool, session.connection.open(pool.body))
    pools.open()
    const flights = Array.from(this.waiting)
    this.waiting.clear()
    for (const flight of flights) this.launch(flight)
  }

  /**
   * Called when the gateway is gone. Attempts that are launched from now on wait for the next gateway, up to the
   * patience.
   */
  abandon(): void {
    const { patienceMillis, pools } = this.options
    this.session = undefined
    pools.close("the gateway is gone, and the next one has not started yet")
    clearTimeout(this.patience)
    this.patience = setTimeout(() => {
      for (const flight of this.waiting) flight.end(withoutGateway)
      this.waiting.clear()
    }, Timer.bounded(patienceMillis))
  }

  /** Records how many attempts a pool's hosts can run at once. */
  resize(ref: number, slots: number): void {
    for (const [pool, opened] of this.session?.pools ?? []) {
      if (opened.ref === ref) this.options.pools.resize(pool, slots)
    }
  }

  /** Stops the timer, because no other gateway will follow. */
  close(): void {
    clearTimeout(this.patience)
  }

  /** Launches an attempt. */
  start(attempt: Runner.Attempt): Flight {
    const flight = new Flight(attempt, this)
    // If it were sent, the gateway would close the connection and end everything that is pending on it.
    const refusal = Runner.refusalOf(attempt.payload, this.options.maxPayloadBytes)
    if (refusal === undefined) this.launch(flight)
    else flight.end(refusal)
    return flight
  }

  launch(flight: Flight): void {
    const { session } = this
    // The connection may have ended before its end was reported.
    if (session === undefined || session.connection.isClosed) {
      this.waiting.add(flight)
      return
    }
    const { attempt } = flight
    flight.session = session
    flight.call = session.connection.call({
      pool: session.pools.get(this.options.pools.of(attempt.task))!,
      execution: attempt.execution,
      fence: attempt.fence,
      priority: attempt.priority,
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

  /** Asks for an attempt to be stopped. Its end follows. */
  cancel(flight: Flight): void {
    if (flight.ended !== undefined) return
    flight.cancelled = true
    if (this.waiting.delete(flight)) return flight.end(Ended.Interrupted({ confirmed: true }))
    const { call, session } = flight
    if (call === undefined || session === undefined) return
    if (!session.connection.cancel(call, this.options.graceMillis)) {
      flight.end(Ended.Interrupted({ confirmed: true }))
    }
  }

  /** Called when the end is not needed any more. */
  discard(flight: Flight): void {
    if (flight.call !== undefined) flight.session?.connection.discard(flight.call)
  }

  /** Called when these ends are recorded. The gateway may then forget them. */
  acknowledge(attempts: ReadonlyArray<Acknowledged>): void {
    for (const { execution, fence } of attempts) {
      const flight = this.unacknowledged.get(execution)
      if (flight?.attempt.fence === fence) this.forget(flight)
    }
  }

  private forget(flight: Flight): void {
    this.unacknowledged.delete(flight.attempt.execution)
    // Another gateway does not know the call.
    if (flight.session === this.session) this.session?.connection.acknowledge(flight.call!.number)
  }
}
