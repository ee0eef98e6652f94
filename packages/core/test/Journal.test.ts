/** The order of a run: what is recorded is delivered again in the same order, whatever the fibers race for. */
import { assert, describe, it } from "@effect/vitest"
import { type Answer, type JournalEntry, makeJournal } from "../src/internal/run/journal.ts"

/**
 * A program of cooperating threads. It asks for a step, for a message, for the first of several, runs threads side by side, or
 * lets the other threads have their turn.
 */
type Op =
  | { readonly _tag: "Yield" }
  | { readonly _tag: "Step"; readonly key: string }
  | { readonly _tag: "Message"; readonly key: string }
  | { readonly _tag: "Race"; readonly keys: ReadonlyArray<string> }
  | { readonly _tag: "All"; readonly programs: ReadonlyArray<() => Program> }
type Program = Generator<Op, string, string>

/** Numbers from 0 to 2^32, the same for the same seed (Mulberry32). */
const makeRandom = (seed: number) => {
  let state = seed
  return (below: number): number => {
    state = state + 0x6D2B79F5 | 0
    let mixed = Math.imul(state ^ state >>> 15, 1 | state)
    mixed = mixed + Math.imul(mixed ^ mixed >>> 7, 61 | mixed) ^ mixed
    return ((mixed ^ mixed >>> 14) >>> 0) % below
  }
}

/** Code whose course depends on its results, on who wins a race, and on a counter that its threads share. */
const makeProgram = (prefix = "") => {
  let shared = 0
  const chain = function*(name: string): Program {
    let value = yield { _tag: "Step", key: `${prefix}${name}:a` }
    for (let turns = Number(value) % 5; turns > 0; turns--) yield { _tag: "Yield" }
    const seen = shared++
    if (Number(value) % 3 === 0) value = yield { _tag: "Message", key: `m${Number(value) % 2}` }
    const winner = yield { _tag: "Race", keys: [`${name}:x${seen}`, `${name}:y${value}`, `${name}:z`] }
    shared += Number(winner) % 2
    return `${value}/${yield { _tag: "Step", key: `${name}:b${winner}` }}/${seen}`
  }
  return function*(): Program {
    const first = yield { _tag: "All", programs: ["p", "q", "r"].map((name) => () => chain(name)) }
    const again = yield { _tag: "Step", key: "p:a" }
    return `${first} ${again} ${shared} ${yield { _tag: "Step", key: `last${shared}` }}`
  }
}

interface Ran {
  readonly result: string
  /** The answers in the order in which the threads got them. */
  readonly trace: ReadonlyArray<string>
  readonly live: ReadonlyArray<string>
  readonly entries: ReadonlyArray<JournalEntry>
}

/** Runs a program on a journal. Work ends, and messages arrive, in an order of the seed's. */
const run = (program: () => Program, recorded: ReadonlyArray<JournalEntry>, seed: number): Ran => {
  const random = makeRandom(seed)
  const journal = makeJournal(recorded)
  const entries = [...recorded]
  const trace: Array<string> = []
  const live: Array<string> = []
  /** Work that goes on, with whether somebody still wants it. */
  const work = new Map<string, { wanted: boolean }>()
  /** What the threads do next. They are at rest when it is empty. */
  const queue: Array<() => void> = []
  let result: string | undefined
  const record = (entry: JournalEntry) => {
    if (journal.record(entry)) entries.push(entry)
  }

  const ask = (key: string, canRunLive: boolean, done: (value: string) => void): () => void => {
    let withdraw = () => {}
    let isWithdrawn = false
    const hear = (answer: Answer): void => {
      if (answer._tag === "Recorded") {
        trace.push(`${key}=${answer.entry.value}`)
        queue.push(() => done(answer.entry.value))
      } else if (answer._tag === "Live") {
        live.push(key)
        const wanted = { wanted: true }
        work.set(key, wanted)
        // It waits for its own result as the others do.
        const stop = journal.ask(key, "recorded", hear)
        const outer = withdraw
        withdraw = () => {
          wanted.wanted = false
          stop()
          outer()
        }
      }
    }
    const first = journal.ask(key, canRunLive ? "live" : "recorded", hear)
    const later = withdraw
    withdraw = () => {
      if (isWithdrawn) return
      isWithdrawn = true
      later()
      first()
    }
    return () => withdraw()
  }

  const start = (program: Program, done: (value: string) => void): void => {
    const step = (value: string): void => {
      const next = program.next(value)
      if (next.done === true) return done(next.value)
      const op = next.value
      switch (op._tag) {
        case "Yield":
          return void queue.push(() => step(""))
        case "Step":
          return void ask(op.key, true, step)
        case "Message":
          return void ask(op.key, false, step)
        case "Race": {
          let isOver = false
          const stops: Array<() => void> = []
          for (const key of op.keys) {
            stops.push(ask(key, true, (value) => {
              if (isOver) return
              isOver = true
              for (const stop of stops) stop()
              step(value)
            }))
          }
          return
        }
        case "All": {
          const values: Array<string> = []
          let left = op.programs.length
          op.programs.forEach((make, index) =>
            start(make(), (value) => {
              values[index] = value
              if (--left === 0) step(values.join("+"))
            })
          )
        }
      }
    }
    step("")
  }

  start(program(), (value) => result = value)
  for (let rounds = 0; result === undefined && rounds < 10_000; rounds++) {
    const next = queue.shift()
    if (next !== undefined) {
      next()
      continue
    }
    const delivery = journal.deliver()
    if (delivery._tag === "Unasked") throw new Error(JSON.stringify(delivery))
    if (delivery._tag === "Given") continue
    const keys = [...work.keys()]
    const turn = random(keys.length + 2)
    if (turn >= keys.length) {
      record({ key: `m${turn - keys.length}`, source: "outside", value: String(random(100)), atMillis: 0 })
      continue
    }
    const key = keys[turn]!
    // Work that is not wanted any more may end all the same.
    if (work.get(key)!.wanted || random(2) === 0) {
      record({ key, source: "run", value: String(random(100)), atMillis: 0 })
    }
    work.delete(key)
  }
  assert.isDefined(result, "the program has ended")
  return { result: result!, trace, live, entries }
}

describe("Journal", () => {
  it("delivers in the recorded order, so that a replay is what happened, and does no work", () => {
    for (let seed = 0; seed < 300; seed++) {
      const first = run(makeProgram(), [], seed)
      assert.isAbove(first.live.length, 7)
      const again = run(makeProgram(), first.entries, seed + 1_000)
      assert.deepStrictEqual([again.result, again.trace], [first.result, first.trace], `seed ${seed}`)
      assert.deepStrictEqual(again.live, [], `seed ${seed}`)
    }
  })

  it("goes on from any position, and does no recorded work again", () => {
    for (let seed = 0; seed < 60; seed++) {
      const first = run(makeProgram(), [], seed)
      for (let length = 0; length < first.entries.length; length++) {
        const prefix = first.entries.slice(0, length)
        const again = run(makeProgram(), prefix, seed * 100 + length)
        for (const { key } of prefix) assert.notInclude(again.live, key)
        // What depends on the prefix alone is the same.
        const keys = new Set(prefix.map(({ key }) => key))
        const other = first.trace.findIndex((line) => !keys.has(line.slice(0, line.lastIndexOf("="))))
        assert.deepStrictEqual(again.trace.slice(0, other), first.trace.slice(0, other))
        assert.deepStrictEqual(run(makeProgram(), again.entries, 7).trace, again.trace)
      }
    }
  })

  it("says at which position other code asks for something else", () => {
    const { entries } = run(makeProgram(), [], 1)
    const journal = makeJournal(entries)
    journal.ask("other", "live", () => assert.fail("nothing is recorded for it"))
    const position = entries.findIndex(({ source }) => source === "run")
    assert.deepStrictEqual(journal.deliver(), {
      _tag: "Unasked",
      position,
      recorded: entries[position]!.key,
      asked: ["other"]
    })
    assert.throws(() => run(makeProgram("renamed "), entries, 1), /"Unasked"/)
    assert.isAbove(journal.unasked().length, 5)
  })

  it("lets one of several do the work, and gives its result to all", () => {
    const journal = makeJournal([])
    const answers: Array<string> = []
    const ask = (name: string) => journal.ask("k", "live", ({ _tag }) => answers.push(`${name} ${_tag}`))
    const [withdraw] = [ask("a"), ask("b"), ask("c")]
    assert.deepStrictEqual([answers, journal.deliver()], [["a Live"], { _tag: "Idle" }])
    // It is interrupted: the next one does it.
    withdraw()
    assert.deepStrictEqual([journal.deliver(), answers], [{ _tag: "Given" }, ["a Live", "b Live"]])
    assert.isTrue(journal.record({ key: "k", source: "run", value: "1", atMillis: 0 }))
    assert.isFalse(journal.record({ key: "k", source: "run", value: "2", atMillis: 0 }), "the first one counts")
    assert.deepStrictEqual(journal.deliver(), { _tag: "Given" })
    ask("d")
    assert.deepStrictEqual(answers, ["a Live", "b Live", "c Recorded", "d Recorded"])
    assert.deepStrictEqual([journal.length(), journal.isReplaying()], [1, false])
  })

  it("ends all asks when the run leaves memory, but for what has been delivered", () => {
    const journal = makeJournal([{ key: "a", source: "run", value: "1", atMillis: 0 }])
    const answers: Array<string> = []
    const ask = (key: string) => journal.ask(key, "recorded", ({ _tag }) => answers.push(`${key} ${_tag}`))
    ask("a")
    journal.deliver()
    ask("b")
    journal.evict()
    ask("a")
    ask("c")
    assert.deepStrictEqual(answers, ["a Recorded", "b Evicted", "a Recorded", "c Evicted"])
  })
})
