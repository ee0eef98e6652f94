/** Signals that a run's code has been sent, each taken once, in order. */
import * as Effect from "effect/Effect"
import type { JournalEntry } from "./journal.ts"

interface Box {
  readonly messages: Array<JournalEntry>
  /** Those that wait for a message, in the order in which they began to wait. */
  readonly receivers: Array<(message: string) => void>
}

export const makeMailbox = () => {
  const boxes = new Map<string, Box>()

  const boxOf = (signal: string): Box => {
    let box = boxes.get(signal)
    if (box === undefined) boxes.set(signal, box = { messages: [], receivers: [] })
    return box
  }

  return {
    /** Adds a message. Returns whether one that waited has it. */
    put: (signal: string, message: JournalEntry): boolean => {
      const { messages, receivers } = boxOf(signal)
      const receive = receivers.shift()
      if (receive === undefined) messages.push(message)
      else receive(message.value)
      return receive !== undefined
    },

    /** Waits for the next message that no other receiver gets. */
    take: (signal: string): Effect.Effect<string> =>
      Effect.callback((resume) => {
        const { messages, receivers } = boxOf(signal)
        const message = messages.shift()
        if (message !== undefined) return resume(Effect.succeed(message.value))
        const receive = (message: string) => resume(Effect.succeed(message))
        receivers.push(receive)
        return Effect.sync(() => {
          const index = receivers.indexOf(receive)
          if (index >= 0) receivers.splice(index, 1)
        })
      }),

    /** Takes all messages that are there. */
    takeAll: (signal: string): ReadonlyArray<string> => boxOf(signal).messages.splice(0).map(({ value }) => value),

    /** Whether one waits for a message. */
    isAwaited: (): boolean => [...boxes.values()].some(({ receivers }) => receivers.length > 0),

    /** Those that have not been taken. */
    left: (): ReadonlyArray<JournalEntry> => [...boxes.values()].flatMap(({ messages }) => messages)
  }
}
