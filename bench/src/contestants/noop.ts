import { Task } from "effect-ray"
import { Schema } from "effect"

/** Does nothing. Its payload is that of the peer's job, so that both encode, store and decode the same. */
export class Noop extends Task.make("Noop", { payload: { id: Schema.Int } }) {}
