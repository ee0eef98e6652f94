/** An attempt from its launch until its acknowledgement. */
import { Ended } from "@effect-ray/core/Outcome"
import type * as Runner from "@effect-ray/core/Runner"
import type { Call, CallOwner, LostBody } from "../GatewayConnection.ts"
import { ofLost, ofResult } from "./ended.ts"
import type { Session } from "./session.ts"

/** The functions of `Flights` that a flight calls. */
export interface Sky {
  /** Sends the attempt to the gateway, or lets it wait for one. */
  readonly launch: (flight: Flight) => void
  /** Called when the attempt's call has ended. */
  readonly landed: (flight: Flight) => void
}

/** One attempt that is running on Ray, or about to. */
export class Flight implements CallOwner {
  readonly attempt: Runner.Attempt
  private readonly sky: Sky
  private started = false
  ended: Ended | undefined
  call: Call | undefined
  session: Session | undefined
  cancelled = false
  private listener: ((ended: Ended) => void) | undefined

  constructor(attempt: Runner.Attempt, sky: Sky) {
    this.attempt = attempt
    this.sky = sky
  }
  end(ended: Ended): void {
    if (this.ended !== undefined) return
    this.ended = ended
    this.listener?.(ended)
  }
  /** Calls the listener with the end, at once if it is known. A later listener replaces an earlier one. */
  listen(listener: (ended: Ended) => void): void {
    if (this.ended === undefined) this.listener = listener
    else listener(this.ended)
  }
  onStarted(place: Runner.Place): void {
    if (this.started) return
    this.started = true
    this.attempt.onStart(place)
  }
  onResult(kind: number, text: string, place: Runner.Place | undefined): void {
    if (place !== undefined) this.onStarted(place)
    this.sky.landed(this)
    this.end(ofResult({ kind, text }))
  }
  onLost(lost: LostBody, place: Runner.Place | undefined): void {
    this.sky.landed(this)
    // A host that had the attempt may have begun it without reporting that. It must not count as one that had not
    // begun.
    if (place !== undefined) this.onStarted(place)
    // A cancelled attempt has stopped if its process is known to be gone.
    this.end(this.cancelled ? Ended.Interrupted({ confirmed: lost.kind !== "gateway" }) : ofLost(lost))
  }
  onUnsent(): void {
    this.sky.launch(this)
  }
}
