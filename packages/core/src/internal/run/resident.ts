/**
 * A run in memory: its journal, and its conversation with the store.
 *
 * The row of a run is either `running` and owned by this process, or `waiting`. A run in memory whose row is waiting has
 * its fibers still. It claims its row again before it does anything that others can see.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { ExecutionId, Fence, NewExecution } from "../../Broker.ts"
import type { Activation, Child, Committed, Message, NewEntry, Next, RunId, Unread } from "../../RunStore.ts"
import { checkKey } from "./bounds.ts"
import { type Accepts, type Answer, type JournalEntry, makeJournal } from "./journal.ts"
import { makeKeys, signalOf, storedKey } from "./keys.ts"
import { makeMailbox } from "./mailbox.ts"
import { describe, type Mismatch } from "./mismatch.ts"
import type { Step } from "./step.ts"
import { makeRunScheduler, type RunScheduler } from "./scheduler.ts"

/** How long a run must be at rest before it waits, in milliseconds. Its code may be about to do more. */
const restMillis = 2

/**
 * How often, and how far apart in milliseconds, code gets another chance to ask for what its journal holds next, because
 * it may wait for something that is not part of the run, such as a hash.
 */
const maxLooks = 100
const lookMillis = 10

/** The most answers in a row, before other work of the process gets its turn. */
const maxAnswers = 200

/** What a resident needs from its process. */
export interface Home {
  /**
   * If there is one, the run is only replayed: nothing is done that its journal does not hold. `settled` is called when the
   * code has been given all of it, and is at rest or has ended.
   */
  readonly replay?: { readonly settled: () => void; readonly mismatched: (mismatch: Mismatch) => void }

  /** The store's time, in milliseconds. */
  readonly now: () => number
  /** Records what a run did. */
  readonly commit: (item: {
    readonly run: RunId
    readonly fence: Fence
    readonly link: number
    readonly length: number
    readonly entries: ReadonlyArray<NewEntry>
    readonly children: ReadonlyArray<Child>
    readonly tasks: ReadonlyArray<NewExecution>
    readonly messages: ReadonlyArray<Message>
    readonly next: Next
  }, then: (committed: Committed) => void) => void
  /** Claims the row of a run that is in memory. */
  readonly reclaim: (id: RunId) => void
  /** Calls `Resident.ring` at that time of the store. */
  readonly alarm: (resident: Resident, atMillis: number) => void
  /** Cancels the execution of a task. */
  readonly cancelTask: (id: ExecutionId) => void
  /** A run's row is waiting now. */
  readonly waits: (resident: Resident) => void
  /** A run is no longer in memory. */
  readonly gone: (resident: Resident, why: Gone) => void
}

/**
 * `Over`: it has ended with this result. `Dropped`: its row waits, or belongs to another. `Again`: its row still belongs
 * to this process, which has to begin anew from the journal.
 */
export type Gone =
  | { readonly _tag: "Over"; readonly result: string }
  | { readonly _tag: "Dropped" }
  | { readonly _tag: "Again"; readonly activation: Activation }

/** How the code of a run has ended. */
export type Ended =
  | { readonly _tag: "Continued"; readonly payload: string }
  | { readonly _tag: "Over"; readonly state: "succeeded" | "failed" | "cancelled"; readonly result: string }
  | { readonly _tag: "Suspended"; readonly held: string | undefined }

export interface Options {
  /** The run as it was claimed. */
  readonly activation: Activation
  /** What its journal holds. */
  readonly entries: ReadonlyArray<JournalEntry>
  /** Interrupts its code, because it was cancelled. */
  readonly interrupt: () => void
  /** Ends its code without an end of the run. */
  readonly abandon: () => void
}

export type Resident = ReturnType<typeof makeResident>

interface Alarm {
  readonly atMillis: number
  readonly value: string
}

export const makeResident = (home: Home, options: Options) => {
  const { expiresAtMillis, id, link, name, startedAtMillis, workflow } = options.activation
  const keys = makeKeys()
  const mailbox = makeMailbox()
  const journal = makeJournal(keys.assign(options.entries), (entry) => {
    size += entry.key.length + entry.value.length
    const signal = signalOf(entry.key)
    if (signal === undefined) return false
    lastMillis = Math.max(lastMillis, entry.atMillis)
    return mailbox.put(signal, entry)
  })
  const scheduler: RunScheduler = makeRunScheduler(() => pump())

  /** Characters of what has been delivered. */
  let size = 0
  let phase: "running" | "waiting" | "gone" = "running"
  let { fence } = options.activation
  /** How many entries the store has. */
  let stored = options.entries.length
  /** What the store does not have yet. */
  let entries: Array<NewEntry> = []
  let children: Array<Child> = []
  let tasks: Array<NewExecution> = []
  let messages: Array<Message> = []
  /** Messages that have been read and may still be in the inbox. */
  const read = new Set<number>()
  let inFlight: Next["_tag"] | undefined
  /** The claim that arrived while a commit was in flight. */
  let claimed: Activation | undefined
  let ended: Ended | undefined
  let wantsToWait = false
  let wantsToLook = false
  let wantsToStore = false
  let cancelled = false
  let interrupted = false
  let timedOut = false
  const durable: Array<(isDurable: boolean) => void> = []
  const owned: Array<(isOwned: boolean) => void> = []
  const looked: Array<(isLooked: boolean) => void> = []
  const current: Array<(isCurrent: boolean) => void> = []
  /** Answers to queries, by their names. */
  const queries = new Map<string, Effect.Effect<string>>()
  const alarms = new Map<string, Alarm>()
  const counts = new Map<string, number>()
  /** How much the code waits for that is not part of the run. */
  let outside = 0
  /** Steps that wait, and how many of their fibers do. */
  const waitingSteps = new Map<Step, number>()
  const ringing = new Set<string>()
  /** The time of what was delivered last, and of what was recorded last. */
  let lastMillis = startedAtMillis
  let recordedMillis = options.entries.at(-1)?.atMillis ?? lastMillis
  let pumping = false
  let rest: NodeJS.Timeout | undefined
  let looks = 0

  const isGone = (): boolean => phase === "gone"

  /** Whether an entry that is recorded now comes after all that the store has. */
  const isOwned = (): boolean => phase === "running" && inFlight !== "Waiting" && inFlight !== "Over"

  const isDurable = (): boolean => phase === "running" && inFlight === undefined && entries.length === 0

  /** Called when something may have changed for the fibers. */
  const poke = (): void => {
    wantsToWait = false
    looks = 0
    clearTimeout(rest)
    if (!pumping) scheduler.check()
  }

  const record = (key: string, source: JournalEntry["source"], value: string): void => {
    recordedMillis = Math.max(recordedMillis, home.now())
    const entry = { key, source, value, atMillis: recordedMillis }
    if (!journal.record(entry)) return
    entries.push({ ...entry, message: undefined })
    poke()
  }

  const ask = (key: string, accepts: Accepts, give: (answer: Answer) => void): () => void => {
    const withdraw = journal.ask(
      key,
      home.replay !== undefined && accepts === "live" ? "recorded" : accepts,
      (answer) => {
        if (answer._tag === "Recorded") lastMillis = Math.max(lastMillis, answer.entry.atMillis)
        give(answer)
      }
    )
    poke()
    return withdraw
  }

  const answerTo = (key: string, accepts: Accepts): Effect.Effect<Answer> =>
    Effect.callback((resume) => Effect.sync(ask(key, accepts, (answer) => resume(Effect.succeed(answer)))))

  /** Whether a step does something else than to wait. */
  const isWorking = (): boolean => journal.working() > waitingSteps.size

  /** Gives answers as long as there are any and the fibers are at rest. */
  const pump = (): void => {
    if (pumping || isGone()) return
    pumping = true
    for (let answers = 0; scheduler.isAtRest() && !isGone(); answers++) {
      if (answers === maxAnswers) {
        pumping = false
        return scheduler.check()
      }
      const delivery = journal.deliver()
      if (delivery._tag === "Given") continue
      if (delivery._tag === "Unasked") {
        doubt(delivery.position, delivery.recorded, delivery.asked)
        break
      }
      // A store may respond at once, with something to deliver.
      if (!atRest() && !journal.isReplaying()) break
    }
    pumping = false
  }

  /** Returns whether there is something to deliver again. */
  const atRest = (): boolean => {
    releaseAll(current, true)
    if (home.replay !== undefined) {
      clearTimeout(rest)
      rest = setTimeout(home.replay.settled, restMillis)
      return false
    }
    if (ended !== undefined) return false
    if (cancelled && !interrupted && !isWorking() && isOwned()) {
      record("interrupted", "run", "null")
      return true
    }
    if (isWorking()) {
      if (entries.length > 0) {
        wantsToStore = true
        advance()
      }
      return false
    }
    clearTimeout(rest)
    // It waits for something that is not part of the run, and would never be woken.
    if (outside > 0 || !isAsking()) return false
    const wait = () => {
      wantsToWait = true
      advance()
    }
    if (children.length > 0 || tasks.length > 0) wait()
    else rest = setTimeout(wait, restMillis)
    return false
  }

  /** Whether the code waits for what others record. */
  const isAsking = (): boolean => {
    if (mailbox.isAwaited()) return true
    for (const key of journal.asked()) if (!hostKeys.has(key)) return true
    return false
  }

  const doubt = (position: number, recorded: string, asked: ReadonlyArray<string>): void => {
    clearTimeout(rest)
    if (ended !== undefined || outside > 0) return
    if (looks++ < maxLooks) {
      rest = setTimeout(pump, lookMillis)
      return
    }
    mismatched({ position, recorded, asked: asked.filter((key) => !hostKeys.has(key)) })
  }

  const mismatched = (mismatch: Mismatch): void => {
    if (home.replay === undefined) hold(describe(mismatch))
    else home.replay.mismatched(mismatch)
  }

  /** Ends the code, and lets the run wait for a person. */
  const hold = (reason: string): void => {
    if (ended !== undefined || isGone()) return
    ended = { _tag: "Suspended", held: reason }
    options.abandon()
    journal.evict()
    advance()
  }

  const releaseAll = (waiters: Array<(is: boolean) => void>, is: boolean): void => {
    for (const resume of waiters.splice(0)) resume(is)
  }

  const needsOwner = (): boolean =>
    (ended !== undefined && (ended._tag !== "Suspended" || ended.held !== undefined)) || durable.length > 0 ||
    owned.length > 0 || ringing.size > 0 ||
    wantsToLook

  /** Does the next thing that has to be done with the store. */
  const advance = (): void => {
    if (isGone() || inFlight !== undefined) return
    if (phase === "waiting") {
      if (needsOwner()) home.reclaim(id)
      else if (ended !== undefined) leave({ _tag: "Dropped" })
      return
    }
    if (ringing.size > 0) ringNow()
    releaseAll(owned, true)
    if (!wantsToLook) releaseAll(looked, true)
    if (entries.length === 0) releaseAll(durable, true)
    // What was released may have done the next thing already.
    if (inFlight !== undefined || isGone()) return
    if (ended !== undefined) return finish(ended)
    if (durable.length > 0 || wantsToLook || (wantsToStore && entries.length > 0)) return send({ _tag: "Running" })
    if (wantsToWait) send(wait(undefined))
  }

  const finish = (ended: Ended): void => {
    if (ended._tag === "Suspended") return send(wait(ended.held))
    const [unasked] = journal.unasked()
    if (unasked !== undefined) {
      const reason = describe({ position: journal.positionOf(unasked), recorded: unasked.key, asked: [] })
      return send(wait(reason))
    }
    if (ended._tag === "Continued") {
      return send({ _tag: "Continued", payload: ended.payload, carried: carried() })
    }
    send({ _tag: "Over", state: ended.state, result: ended.result })
  }

  /** Signals that the code has not received, and a request to stop that has had no effect. */
  const carried = (): ReadonlyArray<JournalEntry> => {
    const isRequest = (key: string) => key === "cancel" || key === "cancel at once"
    const requests = ["cancel", "cancel at once"].flatMap((key) => interrupted ? [] : journal.peek(key) ?? [])
    const later = journal.undelivered().filter(({ key }) => signalOf(key) !== undefined || isRequest(key))
    return [...mailbox.left(), ...requests, ...later]
      .map((entry) => ({ ...entry, key: storedKey(entry.key) }))
      .sort((a, b) => a.atMillis - b.atMillis)
  }

  const wait = (held: string | undefined): Next => {
    const next = Math.min(...Array.from(alarms.values(), ({ atMillis }) => atMillis))
    return {
      _tag: "Waiting",
      wakeAtMillis: Number.isFinite(next) ? Option.some(next) : Option.none(),
      held: Option.fromUndefinedOr(held)
    }
  }

  const send = (next: Next): void => {
    const sent = { entries, children, tasks, messages }
    entries = []
    children = []
    tasks = []
    messages = []
    inFlight = next._tag
    wantsToStore = false
    wantsToLook = false
    wantsToWait = false
    home.commit({ run: id, fence, link, length: stored, ...sent, next }, (committed) => {
      inFlight = undefined
      if (isGone()) return
      if (committed._tag === "Done") stored += sent.entries.length
      for (const { message } of sent.entries) if (message !== undefined) read.delete(message)
      const claim = claimed
      claimed = undefined
      if (claim !== undefined && (committed._tag === "Lost" || ended?._tag === "Suspended")) {
        return leave({ _tag: "Again", activation: claim })
      }
      if (committed._tag === "Lost") return leave({ _tag: "Dropped" })
      if (committed.state === "over") return leave(over(next))
      if (next._tag === "Continued") return leave(continued(next, committed.unread))
      if (ended?._tag === "Suspended" || (next._tag === "Waiting" && Option.isSome(next.held))) {
        return leave(committed.state === "waiting" ? { _tag: "Dropped" } : again(committed.unread))
      }
      hear(committed.unread)
      phase = committed.state
      if (claim !== undefined) return resident.resume(claim)
      if (phase === "waiting") home.waits(resident)
      advance()
    })
  }

  const over = (next: Next): Gone => next._tag === "Over" ? { _tag: "Over", result: next.result } : { _tag: "Dropped" }

  /** Something arrived before the run could wait, after its code had ended. */
  const again = (unread: ReadonlyArray<Unread>): Gone => ({
    _tag: "Again",
    activation: { ...options.activation, fence, length: stored, unread, nowMillis: home.now() }
  })

  const continued = (
    { carried, payload }: Extract<Next, { readonly _tag: "Continued" }>,
    unread: ReadonlyArray<Unread>
  ): Gone => ({
    _tag: "Again",
    activation: {
      ...options.activation,
      payload,
      fence,
      link: link + 1,
      length: carried.length,
      unread,
      startedAtMillis: home.now(),
      nowMillis: home.now()
    }
  })

  const hear = (unread: ReadonlyArray<Unread>): void => {
    for (const { atMillis, id, key, value } of unread) {
      if (read.has(id)) continue
      read.add(id)
      const entry = { key, source: "outside", value, atMillis } as const
      // One that came too late leaves the inbox too.
      entries.push({ ...entry, message: id })
      journal.record({ ...entry, key: keys.of(key) })
      poke()
    }
  }

  const leave = (why: Gone): void => {
    if (isGone()) return
    phase = "gone"
    clearTimeout(rest)
    if (ended === undefined) options.abandon()
    journal.evict()
    releaseAll(durable, false)
    releaseAll(owned, false)
    releaseAll(looked, false)
    releaseAll(current, false)
    alarms.clear()
    home.gone(resident, why)
  }

  const ringNow = (): void => {
    const due = [...alarms].filter(([key]) => ringing.has(key)).sort(([, a], [, b]) => a.atMillis - b.atMillis)
    ringing.clear()
    for (const [key, { value }] of due) {
      alarms.delete(key)
      record(key, "outside", value)
    }
  }

  const until = (waiters: Array<(is: boolean) => void>, is: () => boolean): Effect.Effect<boolean> =>
    Effect.suspend(() => {
      if (is()) return Effect.succeed(true)
      if (isGone()) return Effect.succeed(false)
      return Effect.callback<boolean>((resume) => {
        const waiter = (is: boolean) => resume(Effect.succeed(is))
        waiters.push(waiter)
        advance()
        return Effect.sync(() => {
          const index = waiters.indexOf(waiter)
          if (index >= 0) waiters.splice(index, 1)
        })
      })
    })

  const resident = {
    id,
    name,
    workflow,
    scheduler: scheduler.scheduler,

    /** The time of what the run's code was told last, in milliseconds. */
    lastMillis: (): number => lastMillis,

    now: (): number => home.now(),

    isGone,

    /** Whether the run is only replayed. */
    isReplay: home.replay !== undefined,

    /** Whether it works, or may go on without being woken. */
    isActive: (): boolean => phase === "running",

    /** Asks for an entry that another party records. Undefined if the run leaves memory. */
    ask: (key: string): Effect.Effect<JournalEntry | undefined> =>
      Effect.map(answerTo(key, "recorded"), (answer) => answer._tag === "Recorded" ? answer.entry : undefined),

    /** The code waits for something that is not part of the run. Returns a function that ends this. */
    waitOutside: (): () => void => {
      outside++
      return () => {
        outside--
        if (!isGone()) poke()
      }
    },

    /** A fiber of a step begins to wait, or has ended to. */
    stepWaits: (step: Step, by: 1 | -1): void => {
      for (let one: Step | undefined = step; one !== undefined; one = one.parent) {
        const waits = (waitingSteps.get(one) ?? 0) + by
        if (waits === 0) waitingSteps.delete(one)
        else waitingSteps.set(one, waits)
      }
      if (!isGone()) poke()
    },

    /** Waits until the code has been given all that the journal holds. False if the run leaves memory. */
    current: Effect.suspend(() => until(current, () => !journal.isReplaying() && scheduler.isAtRest())),

    queries,

    /** The signals that have been delivered. */
    mailbox,

    /** Reads the inbox. False if the run leaves memory. */
    readInbox: Effect.suspend(() => {
      wantsToLook = true
      return until(looked, () => !wantsToLook && inFlight === undefined && phase === "running")
    }),

    /** What has been delivered under a key. */
    peek: (key: string): JournalEntry | undefined => journal.peek(key),

    /**
     * Asks for an entry, and does the work that makes it if there is none. `until`: what must hold before the work begins.
     * Work that returns undefined records nothing. Undefined if nothing was recorded, or the run leaves memory.
     */
    once: <R>(
      key: string,
      source: JournalEntry["source"],
      until: Effect.Effect<boolean>,
      work: Effect.Effect<string | undefined, never, R>
    ): Effect.Effect<JournalEntry | undefined, never, R> =>
      Effect.suspend(() => {
        let withdraw = () => {}
        const asked = (accepts: Accepts) =>
          Effect.callback<Answer>((resume) => {
            withdraw = ask(key, accepts, (answer) => resume(Effect.succeed(answer)))
          })
        return Effect.onExit(
          Effect.flatMap(
            Effect.andThen(checkKey(key), asked("live")),
            (answer): Effect.Effect<JournalEntry | undefined, never, R> => {
              if (answer._tag === "Recorded") return Effect.succeed(answer.entry)
              if (answer._tag !== "Live") return Effect.succeed(undefined)
              return Effect.flatMap(
                Effect.flatMap(until, (is) => is ? work : Effect.succeed(undefined)),
                (value) => {
                  if (value === undefined || isGone()) return Effect.succeed(undefined)
                  record(key, source, value)
                  return Effect.map(
                    asked("recorded"),
                    (answer) => answer._tag === "Recorded" ? answer.entry : undefined
                  )
                }
              )
            }
          ),
          () =>
            Effect.sync(() => {
              withdraw()
              if (!isGone()) poke()
            })
        )
      }),

    /** Waits until all that was recorded is in the store. False if the run leaves memory. */
    stored: until(durable, isDurable),

    /** Waits until something may be recorded. False if the run leaves memory. */
    owned: until(owned, isOwned),

    /**
     * Whether this point of the code was, or is now, reached for the first time with the mark. Undefined if the run leaves
     * memory.
     */
    mark: (key: string): Effect.Effect<boolean | undefined> =>
      Effect.gen(function*() {
        let answer = yield* answerTo(key, "optional")
        if (answer._tag === "Live") {
          record(key, "run", "null")
          answer = yield* answerTo(key, "recorded")
        }
        return answer._tag === "Evicted" ? undefined : answer._tag === "Recorded"
      }),

    /** Accepts a mark that the journal may hold. */
    acceptMark: (key: string): void => ask(key, "recorded", () => {})(),

    /** A child to store with the next commit. */
    startChild: (child: Child): void => void children.push(child),

    /** An execution of a task to enqueue with the next commit. */
    startTask: (task: NewExecution): void => void tasks.push(task),

    /** A message to send with the next commit. */
    sendMessage: (message: Message): void => void messages.push(message),

    /** Cancels the execution of a task that the code no longer waits for, unless it is the run that leaves memory. */
    cancelTask: (execution: ExecutionId): void => {
      if (!isGone() && ended === undefined) home.cancelTask(execution)
    },

    /** How many calls with this name there were before. */
    count: (name: string): number => {
      const count = counts.get(name) ?? 0
      counts.set(name, count + 1)
      return count
    },

    /** Records an entry at that time of the store. */
    setAlarm: (key: string, atMillis: number, value: string): void => {
      if (journal.has(key)) return
      alarms.set(key, { atMillis, value })
      home.alarm(resident, atMillis)
    },

    clearAlarm: (key: string): void => void alarms.delete(key),

    /** Records what has become due. */
    ring: (): void => {
      const now = home.now()
      for (const [key, { atMillis }] of alarms) if (atMillis <= now) ringing.add(key)
      if (ringing.size === 0) return
      if (isOwned()) ringNow()
      else advance()
    },

    isCancelling: (): boolean => cancelled && !interrupted,

    /** Begins to deliver. */
    begin: (unread: ReadonlyArray<Unread>): void => {
      ask("cancel", "recorded", (answer) => {
        if (answer._tag === "Recorded") cancelled = true
      })
      ask("cancel at once", "recorded", (answer) => {
        if (answer._tag !== "Recorded") return
        cancelled = true
        if (!interrupted && isOwned()) record("interrupted", "run", "null")
      })
      ask("interrupted", "recorded", (answer) => {
        if (answer._tag !== "Recorded") return
        interrupted = true
        options.interrupt()
      })
      if (Option.isSome(expiresAtMillis)) {
        ask("expired", "recorded", (answer) => {
          if (answer._tag !== "Recorded" || interrupted) return
          timedOut = true
          if (isOwned()) record("interrupted", "run", "null")
          else cancelled = true
        })
        resident.setAlarm("expired", expiresAtMillis.value, "null")
      }
      hear(unread)
      poke()
    },

    /** Whether it was interrupted because its time was over. */
    isTimedOut: (): boolean => timedOut,

    /** The link of its chain, from 1; how many entries its code has been given, and how many characters they have. */
    info: () => ({ link, length: journal.position(), size }),

    /** Ends the link, and lets the run go on with another payload. */
    continueAs: (payload: string): void => {
      if (ended !== undefined || isGone()) return
      ended = { _tag: "Continued", payload }
      options.abandon()
      if (home.replay !== undefined) return home.replay.settled()
      // In a step of its own: the code that calls this has to end first.
      scheduler.check()
      queueMicrotask(() => {
        journal.evict()
        advance()
      })
    },

    /** Its row was claimed again. If it has had other owners since, it begins anew. */
    resume: (activation: Activation): void => {
      if (inFlight !== undefined) {
        claimed = activation
        return
      }
      if (activation.fence !== fence + 1 || activation.length !== stored || phase !== "waiting") {
        return leave({ _tag: "Again", activation })
      }
      fence = activation.fence
      phase = "running"
      hear(activation.unread)
      resident.ring()
      poke()
      advance()
    },

    /** There may be messages in its inbox. */
    look: (): void => {
      wantsToLook = true
      advance()
    },

    /** Its code has ended. */
    end: (how: Ended): void => {
      if (isGone() || ended !== undefined) return
      ended = how
      clearTimeout(rest)
      if (home.replay === undefined) return advance()
      const [unasked] = journal.unasked()
      if (unasked === undefined) return home.replay.settled()
      mismatched({ position: journal.positionOf(unasked), recorded: unasked.key, asked: [] })
    },

    hold,

    /** Leaves memory. Its row stays as it is. */
    evict: (): void => leave({ _tag: "Dropped" })
  }
  return resident
}

/** Keys for which the host asks itself. */
const hostKeys: ReadonlySet<string> = new Set(["cancel", "cancel at once", "interrupted", "expired"])
