import { Task } from "effect-ray"
import { Schema } from "effect"

/** Does nothing. Its payload is the same as the peer's job's, so that both encode, store and decode the same. */
export class Noop extends Task.make("Noop", { payload: { id: Schema.Int } }) {}
