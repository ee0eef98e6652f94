/**
 * Sends messages to other processes, by NOTIFY.
 *
 * A NOTIFY takes a global lock at commit, so there is never one per row. The first is sent at once, as part of the
 * statement it reports on if that statement is ours. After that, at most one is sent every few milliseconds, for
 * everything that happened in between. No message is guaranteed: ticks and polls are.
 */
import type { ExecutionId, NewExecution } from "@effect-ray/core/Broker"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { SqlError } from "effect/sql/SqlError"
import { type Local, maxAhead, type News } from "./local.ts"
import { arrays, type Store } from "./store.ts"

/** The shortest time between two messages, in milliseconds. */
const minMillis = 5

/** The longest message, in characters of up to three bytes each. Postgres accepts 7,999 bytes. */
const maxMessageLength = 2_600

/** The most ids in one message. */
const maxIds = 190

/** A message to all processes, on the common channel. */
export class Message extends Schema.Class<Message>("Message")({
  /** The sender, which knows the content already. */
  from: Schema.String,
  queues: Schema.optionalKey(Schema.Array(Schema.Tuple([Schema.String, Schema.Number]))),
  /** Something may be due that is older than what was claimed last. */
  again: Schema.optionalKey(Schema.Boolean),
  /** Something was paused or resumed. */
  paused: Schema.optionalKey(Schema.Boolean),
  cancelling: Schema.optionalKey(Schema.Array(Schema.String))
}) {}

/** What the messages on a process's own channel begin with that name runs. Others name executions that have ended. */
export const runsPrefix = "runs "

/** The process that stands for runs in `Woken`. */
const runs = "*"

/** The processes and queues that an end concerns, as the functions of the schema return them. */
export interface Woken {
  readonly woken_processes: ReadonlyArray<string> | null
  readonly woken_ids: ReadonlyArray<ExecutionId> | null
  readonly queues?: ReadonlyArray<string> | null
}

/** The queues of new executions, each with the time until the first is due; negative if it was due before. */
export const newsOf = (executions: ReadonlyArray<NewExecution>): News => {
  const news = new Map<string, number>()
  for (const { due, queue } of executions) {
    const delay = due._tag === "Now"
      ? 0
      : due._tag === "After"
      ? Duration.toMillis(due.delay)
      : DateTime.toEpochMillis(due.at) - Date.now()
    if (delay <= maxAhead && delay < (news.get(queue) ?? Infinity)) news.set(queue, Math.round(delay))
  }
  return news
}

export type Notifier = Effect.Success<ReturnType<typeof makeNotifier>>

export const makeNotifier = Effect.fnUntraced(function*(
  store: Store,
  local: Local,
  options: { readonly notify: boolean }
) {
  const runFork = Effect.runForkWith(yield* Effect.context<never>())
  const queues = new Map<string, number>()
  const cancelling = new Set<ExecutionId>()
  const ended = new Map<string, Set<ExecutionId>>()
  const wokenRuns = new Map<string, Set<ExecutionId>>()
  let again = false
  let paused = false
  let timer: NodeJS.Timeout | undefined
  let lastSent = 0

  /** Runs something that the caller does not wait for, outside the caller's transaction. */
  const background = (effect: Effect.Effect<unknown, SqlError>): void => {
    runFork(Effect.ignore(effect))
  }

  const drain = (): ReadonlyArray<readonly [channel: string, message: string]> => {
    const messages: Array<readonly [string, string]> = []
    const all = (message: Omit<typeof Message.Encoded, "from">) =>
      messages.push([store.channel, JSON.stringify({ from: store.process, ...message })])
    let batch: Array<readonly [string, number]> = []
    let length = 0
    for (const entry of queues) {
      // Measured as written, because escaped control characters are longer.
      const written = JSON.stringify(entry).length + 1
      // Only a row that was written by hand has such a name. A tick finds it.
      if (written > maxMessageLength) continue
      if (batch.length > 0 && length + written > maxMessageLength) {
        all({ queues: batch })
        batch = []
        length = 0
      }
      batch.push(entry)
      length += written
    }
    if (batch.length > 0 || again) all({ queues: batch, ...(again ? { again } : {}) })
    if (paused) all({ paused })
    for (const ids of chunks([...cancelling])) all({ cancelling: ids })
    for (const [process, ids] of ended) {
      for (const chunk of chunks([...ids])) messages.push([`${store.channel}_${process}`, chunk.join(",")])
    }
    for (const [process, ids] of wokenRuns) {
      for (const chunk of chunks([...ids])) messages.push([`${store.channel}_${process}`, runsPrefix + chunk.join(",")])
    }
    queues.clear()
    cancelling.clear()
    ended.clear()
    wokenRuns.clear()
    again = false
    paused = false
    return messages
  }

  const send = (): void => {
    timer = undefined
    const messages = drain()
    if (messages.length === 0) return
    lastSent = performance.now()
    background(store.beside((sql) =>
      sql`
        SELECT ${store.s}.tell(
          ${arrays.text(messages.map(([channel]) => channel))},
          ${arrays.text(messages.map(([, message]) => message))}
        )
      `
    ))
  }

  const schedule = (): void => {
    if (!options.notify || timer !== undefined) return
    const wait = lastSent + minMillis - performance.now()
    if (wait <= 0) send()
    else timer = setTimeout(send, wait)
  }

  yield* Effect.addFinalizer(() => Effect.sync(() => clearTimeout(timer)))

  const notifier = {
    background,

    /** Called when runs are to be woken. Set by the store of runs. */
    onWakes: (): void => {},

    /** Runs have messages, and may be in the memory of these processes. */
    runs: (homes: ReadonlyArray<string>, ids: ReadonlyArray<ExecutionId>): void => {
      const own: Array<ExecutionId> = []
      homes.forEach((process, index) => {
        const id = ids[index]!
        if (process === store.process) own.push(id)
        else if (options.notify && wokenRuns.get(process)?.add(id) === undefined) wokenRuns.set(process, new Set([id]))
      })
      if (own.length > 0) local.woken(own)
      if (wokenRuns.size > 0) schedule()
    },

    /**
     * The message to send within the statement that stores these executions; null if it has to wait for its turn.
     * `enqueued` then sends it after the commit.
     */
    leadingEdge: (news: News): string | null => {
      const now = performance.now()
      if (!options.notify || news.size === 0 || timer !== undefined || now - lastSent < minMillis) return null
      const message = JSON.stringify({ from: store.process, queues: [...news], again: isOld(news) })
      if (message.length > maxMessageLength) return null
      lastSent = now
      return message
    },

    /** New executions have been committed. `told`: the statement itself has sent the message. */
    enqueued: (news: News, told: boolean): void => {
      if (isOld(news)) local.again()
      local.enqueued(news)
      if (!options.notify || told || news.size === 0) return
      again ||= isOld(news)
      for (const [queue, delay] of news) queues.set(queue, Math.min(delay, queues.get(queue) ?? delay))
      schedule()
    },

    cancelling: (ids: ReadonlyArray<ExecutionId>): void => {
      local.cancelling(ids)
      if (!options.notify) return
      for (const id of ids) cancelling.add(id)
      schedule()
    },

    /** Something was paused or resumed. */
    paused: (): void => {
      local.paused()
      if (!options.notify) return
      paused = true
      schedule()
    },

    /** Executions have ended, and executions have gone back to queues. */
    woken: (woken: Woken): void => {
      const own: Array<ExecutionId> = []
      woken.woken_processes?.forEach((process, index) => {
        const id = woken.woken_ids![index]!
        if (process === runs) notifier.onWakes()
        else if (process === store.process) own.push(id)
        else if (options.notify && ended.get(process)?.add(id) === undefined) ended.set(process, new Set([id]))
      })
      if (own.length > 0) local.ended(own)
      if (woken.queues != null && woken.queues.length > 0) {
        local.again()
        local.enqueued(new Map(woken.queues.map((queue) => [queue, 0])))
        if (!options.notify) return
        again = true
        for (const queue of woken.queues) queues.set(queue, 0)
      }
      if (ended.size > 0 || queues.size > 0) schedule()
    }
  }
  return notifier
})

/** Whether some of them were due long before now, by a `runAt` in the past. */
const isOld = (news: News): boolean => {
  for (const delay of news.values()) if (delay < 0) return true
  return false
}

const chunks = (ids: ReadonlyArray<string>): ReadonlyArray<ReadonlyArray<string>> =>
  Array.from({ length: Math.ceil(ids.length / maxIds) }, (_, n) => ids.slice(n * maxIds, (n + 1) * maxIds))
