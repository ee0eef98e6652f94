/**
 * Every interleaving of one run's life: two workers, two senders, a timer, a lapsed lease and a lost acknowledgement.
 *
 * Steps are what transactions can be cut into: what one reads before it has a lock, what it does under the lock, its
 * commit, and the arrival of its response. The model holds the protocol of `RunStore`; variants of it that are known to
 * be wrong must each give a counterexample.
 */
import { assert, describe, it } from "@effect/vitest"

type WorkerName = "A" | "B"

interface Worker {
  readonly alive: boolean
  readonly step: "idle" | "running" | "looked" | "locked" | "sent"
  readonly fence: number
  /** The journal in memory: what its code was given, in order. */
  readonly memory: ReadonlyArray<number>
  /** How much of it the store has, as far as the worker knows. */
  readonly stored: number
  /** What it read of the inbox before it had the lock. Only a wrong variant does so. */
  readonly looked: ReadonlyArray<number>
  /** The response that is on its way. */
  readonly response: { readonly state: "running" | "waiting" | "over"; readonly unread: ReadonlyArray<number> } | null
}

interface State {
  readonly row: {
    readonly state: "queued" | "running" | "waiting" | "over"
    readonly owner: string
    readonly fence: number
  }
  /** The worker that holds the row's lock between two steps. */
  readonly lock: string
  readonly inbox: ReadonlyArray<number>
  readonly journal: ReadonlyArray<number>
  /** The fence under which each entry was written. */
  readonly fences: ReadonlyArray<number>
  readonly wakes: number
  readonly timer: "set" | "due" | "rung"
  readonly senders: ReadonlyArray<"new" | "inserted" | "committed">
  readonly A: Worker
  readonly B: Worker
  readonly lapses: number
  readonly lostResponses: number
  readonly ends: number
}

interface Variant {
  /** `wait` is committed after a look under the row's lock, after a look before it, or without one. */
  readonly look: "locked, then" | "before the lock" | "never"
  /** The run is woken after the sender's commit, or within its transaction. */
  readonly wake: "after the commit" | "in the transaction"
  /** Whether commits compare fences. */
  readonly isFenced: boolean
  /** Whether a repeated commit is recognised by the journal's length. */
  readonly isRepeatable: boolean
}

const proposed: Variant = { look: "locked, then", wake: "after the commit", isFenced: true, isRepeatable: true }

/** Messages are 0 and 1, the timer's entry is 2. */
const timer = 2
const needed = 3
const senders = [0, 1]

const worker: Worker = { alive: true, step: "idle", fence: 0, memory: [], stored: 0, looked: [], response: null }

const first: State = {
  row: { state: "queued", owner: "", fence: 0 },
  lock: "",
  inbox: [],
  journal: [],
  fences: [],
  wakes: 0,
  timer: "set",
  senders: senders.map(() => "new"),
  A: worker,
  B: worker,
  lapses: 0,
  lostResponses: 0,
  ends: 0
}

type Step = readonly [name: string, next: State]

const steps = (state: State, variant: Variant): ReadonlyArray<Step> => {
  const { row } = state
  const isFree = state.lock === ""
  const found: Array<Step> = []
  const add = (name: string, change: Partial<State>) => found.push([name, { ...state, ...change }])
  const woken = { ...row, state: "queued" as const, owner: "" }

  for (const sender of senders) {
    const at = (what: "inserted" | "committed") => state.senders.with(sender, what)
    const name = `sender ${sender}`
    if (state.senders[sender] === "new") {
      if (variant.wake === "after the commit") add(`${name} inserts`, { senders: at("inserted") })
      else if (isFree) {
        add(`${name} inserts and wakes`, { senders: at("inserted"), row: row.state === "waiting" ? woken : row })
      }
    }
    if (state.senders[sender] === "inserted") {
      add(`${name} commits`, {
        senders: at("committed"),
        inbox: row.state === "over" ? state.inbox : [...state.inbox, sender],
        wakes: state.wakes + (variant.wake === "after the commit" ? 1 : 0)
      })
    }
  }
  if (state.wakes > 0 && isFree) {
    add("a wake is applied", { wakes: state.wakes - 1, row: row.state === "waiting" ? woken : row })
  }
  if (state.timer === "set") add("the timer becomes due", { timer: "due" })

  for (const name of ["A", "B"] as const) found.push(...workerSteps(state, variant, name))
  return found
}

const workerSteps = (state: State, variant: Variant, name: WorkerName): ReadonlyArray<Step> => {
  const me = state[name]
  const { row } = state
  const isFree = state.lock === ""
  const found: Array<Step> = []
  const add = (what: string, change: Partial<State>, self: Partial<Worker>) =>
    found.push([`${name} ${what}`, { ...state, ...change, [name]: { ...me, ...self } }])
  const ownsRow = row.owner === name && row.state === "running" && (row.fence === me.fence || !variant.isFenced)

  if (me.step === "idle" && me.alive && isFree) {
    const isDue = row.state === "queued" || (row.state === "waiting" && state.timer === "due")
    if (isDue) {
      const fence = row.fence + 1
      // The row's own messages are read with the claim.
      add("claims", { row: { state: "running", owner: name, fence } }, {
        step: "running",
        fence,
        memory: [...state.journal, ...state.inbox],
        stored: state.journal.length
      })
    }
  }

  if (me.step === "running") {
    const hasAll = me.memory.length >= needed
    const mustRing = state.timer === "due" && !me.memory.includes(timer)
    if (mustRing) {
      add("rings the timer", {}, { memory: [...me.memory, timer] })
    }
    if (hasAll && isFree) found.push(commit(state, variant, name, ownsRow, "over"))
    if (!hasAll && isFree && me.stored < me.memory.length) found.push(commit(state, variant, name, ownsRow, "running"))
    if (!hasAll && !mustRing && variant.look === "before the lock") {
      add("looks", {}, { step: "looked", looked: state.inbox })
    }
    if (!hasAll && !mustRing && variant.look !== "before the lock" && isFree) {
      add("locks, to wait", { lock: name }, { step: "locked" })
    }
  }
  if (me.step === "looked" && isFree) found.push(commit(state, variant, name, ownsRow, "waiting"))
  if (me.step === "locked") found.push(commit(state, variant, name, ownsRow, "waiting"))

  if (me.step === "sent" && me.response !== null) {
    const { response } = me
    const unread = response.unread.filter((message) => !me.memory.includes(message))
    add("gets the response", {}, {
      step: response.state === "running" ? "running" : "idle",
      stored: me.memory.length,
      memory: [...me.memory, ...unread],
      response: null
    })
    if (state.lostResponses < 1 && response.state === "running") {
      add("loses the response, and repeats", { lostResponses: state.lostResponses + 1 }, {
        step: "running",
        response: null
      })
    }
  }

  if (state.lapses < 1 && row.owner === name && isFree && row.state === "running") {
    add(
      "lapses and is reaped",
      { lapses: state.lapses + 1, row: { state: "queued", owner: "", fence: row.fence + 1 } },
      {
        alive: false
      }
    )
  }
  return found
}

const commit = (
  state: State,
  variant: Variant,
  name: WorkerName,
  ownsRow: boolean,
  next: "running" | "waiting" | "over"
): Step => {
  const me = state[name]
  const done = (what: string, change: Partial<State>, self: Partial<Worker>): Step => [
    `${name} ${what}`,
    { ...state, lock: state.lock === name ? "" : state.lock, ...change, [name]: { ...me, looked: [], ...self } }
  ]
  const mayWrite = ownsRow || (!variant.isFenced && state.row.state !== "over")
  if (!mayWrite) return done("learns that it has lost the run", {}, { step: "idle", response: null })
  const isRepeated = variant.isRepeatable && state.journal.length > me.stored
  const entries = isRepeated ? [] : me.memory.slice(me.stored)
  const inbox = state.inbox.filter((message) => !me.memory.includes(message))
  const written = {
    journal: [...state.journal, ...entries],
    fences: [...state.fences, ...entries.map(() => me.fence)],
    inbox,
    timer: entries.includes(timer) ? "rung" as const : state.timer
  }
  if (next === "over") {
    return done("ends the run", {
      ...written,
      inbox: [],
      row: { ...state.row, state: "over", owner: "" },
      ends: state.ends + 1
    }, { step: "sent", response: { state: "over", unread: [] } })
  }
  const seen = variant.look === "before the lock" ? me.looked.filter((message) => !me.memory.includes(message)) : inbox
  if (next === "waiting" && (seen.length === 0 || variant.look === "never")) {
    return done("waits", { ...written, row: { ...state.row, state: "waiting", owner: "" } }, {
      step: "sent",
      response: { state: "waiting", unread: [] }
    })
  }
  return done(next === "waiting" ? "must not wait" : "commits", written, {
    step: "sent",
    response: { state: "running", unread: inbox }
  })
}

/** What is wrong with a state, if anything is. */
const faultOf = (state: State, isLast: boolean): string | undefined => {
  const { ends, fences, inbox, journal, row, senders, wakes } = state
  if (ends > 1) return "two ends"
  if (fences.some((fence, index) => index > 0 && fence < fences[index - 1]!)) {
    return "an older fence wrote after a newer one"
  }
  if (new Set(journal).size < journal.length) return "an entry twice"
  for (const { alive, fence, memory, stored } of [state.A, state.B]) {
    const isOwner = alive && row.state === "running" && row.fence === fence
    if (isOwner && journal.slice(0, memory.length).some((entry, index) => index < stored && entry !== memory[index])) {
      return "the order in the store is not the order in memory"
    }
  }
  const isUnderWay = wakes > 0 || senders.includes("inserted")
  if (row.state === "waiting" && inbox.length > 0 && !isUnderWay) return "a lost wake"
  if (isLast && row.state !== "over") return `stuck, and ${row.state}`
  return undefined
}

/** Visits every state. Returns how many there are, and the shortest way to a fault. */
const explore = (variant: Variant): { readonly states: number; readonly fault?: string; readonly trace?: string } => {
  const from = new Map<string, readonly [step: string, key: string]>()
  const start = JSON.stringify(first)
  const queue = [start]
  from.set(start, ["", ""])
  for (let at = 0; at < queue.length; at++) {
    const key = queue[at]!
    const state = JSON.parse(key) as State
    const next = steps(state, variant)
    const fault = faultOf(state, next.length === 0)
    if (fault !== undefined) {
      const trace: Array<string> = []
      for (let last = key; last !== start; last = from.get(last)![1]) trace.unshift(from.get(last)![0])
      return { states: from.size, fault, trace: trace.join(", ") }
    }
    for (const [step, state] of next) {
      const reached = JSON.stringify(state)
      if (from.has(reached)) continue
      from.set(reached, [step, key])
      queue.push(reached)
    }
  }
  return { states: from.size }
}

describe("the protocol of a run", () => {
  it("loses no wake, records nothing twice and ends once, in every interleaving", () => {
    const { fault, states, trace } = explore(proposed)
    assert.isUndefined(fault, trace)
    assert.isAbove(states, 400_000)
  })

  const wrong: ReadonlyArray<readonly [string, Partial<Variant>, string]> = [
    ["a wake within the sender's transaction", { wake: "in the transaction" }, "a lost wake"],
    ["a look before the lock", { look: "before the lock" }, "a lost wake"],
    ["a wait without a look", { look: "never" }, "a lost wake"],
    ["a commit without a fence", { isFenced: false }, "the order in the store is not the order in memory"],
    ["a commit that cannot be repeated", { isRepeatable: false }, "an entry twice"]
  ]
  for (const [what, variant, fault] of wrong) {
    it(`would break with ${what}`, () => {
      const found = explore({ ...proposed, ...variant })
      assert.strictEqual(found.fault, fault, found.trace)
    })
  }
})
