/** An attempt between its launch and its acknowledgement. */
import { Ended } from "@effect-ray/core/Outcome"
import type * as Runner from "@effect-ray/core/Runner"
import type { Call, CallOwner, LostBody } from "../GatewayConnection.ts"
import { ofLost, ofResult } from "./ended.ts"
import type { Session } from "./session.ts"

/** What an attempt on its way needs of those who sent it. */
export interface Sky {
  readonly launch: (flight: Flight) => void
  readonly landed: (flight: Flight) => void
}

/** One attempt on its way. */
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
  /** Tells one listener, the last, of the end. */
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
    // A host that had it may have begun it without a word: that is never to be taken for one that had not.
    if (place !== undefined) this.onStarted(place)
    // What was to be stopped has stopped, if its process is known to be gone.
    this.end(this.cancelled ? Ended.Interrupted({ confirmed: lost.kind !== "gateway" }) : ofLost(lost))
  }
  onUnsent(): void {
    this.sky.launch(this)
  }
}
