/** Input that no store can take is refused at the door; what only looks odd is kept as it is. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { maxCarriedBytes, maxDetailLength, maxKeyBytes, maxNameBytes, maxTraceparentBytes } from "../../src/Limits.ts"
import { maxValueBytes } from "../../src/RunInput.ts"
import type { Message, NewRun } from "../../src/RunStore.ts"
import {
  done,
  entry,
  inJournal,
  type It,
  keysOf,
  makeDesk,
  moved,
  over,
  refusal,
  type Step,
  uuid,
  waiting
} from "./kit.ts"

/** What no compiler would let through. */
const untyped = <A>(value: { readonly [_ in keyof A]?: unknown }) => value as Partial<A>

const bad = ["a\u0000b", "a\uD800b", "\uDC00"]

const runs: ReadonlyArray<readonly [what: string, overrides: Partial<NewRun>]> = [
  ...bad.flatMap((text) =>
    [{ name: text }, { workflow: text }, { payload: text }, { traceparent: Option.some(text) }].map((overrides) =>
      [`${JSON.stringify(text)} as its ${Object.keys(overrides)[0]}`, overrides] as const
    )
  ),
  ["an id that is not a UUID", { id: "one" }],
  ["an id with half a surrogate pair", { id: "\uD800" }],
  ["a name that is too long", { name: "n".repeat(maxKeyBytes + 1) }],
  ["no workflow", { workflow: "" }],
  ["a workflow's name that is too long", { workflow: "ü".repeat(maxNameBytes / 2 + 1) }],
  ["a trace context that is too long", { traceparent: Option.some("0".repeat(maxTraceparentBytes + 1)) }],
  ["a payload that is no text", untyped<NewRun>({ payload: undefined })],
  ["a name that is no text", untyped<NewRun>({ name: 1 })]
]

const messages: ReadonlyArray<readonly [what: string, overrides: Partial<Message>]> = [
  ...bad.flatMap((text) => [
    [`${JSON.stringify(text)} as its key`, { key: text }] as const,
    [`${JSON.stringify(text)} as its value`, { value: text }] as const
  ]),
  ["a run that is not a UUID", { run: "one" }],
  ["a key that is too long", { key: "k".repeat(maxKeyBytes + 1) }],
  ["a value that is no text", untyped<Message>({ value: undefined })],
  ["a key that is no text", untyped<Message>({ key: 1 })]
]

const steps: ReadonlyArray<readonly [what: string, step: Step]> = [
  ...bad.flatMap((text) => [
    [`${JSON.stringify(text)} as a key`, { entries: [entry(text)] }] as const,
    [`${JSON.stringify(text)} as a value`, { entries: [entry("a", { value: text })] }] as const,
    [`${JSON.stringify(text)} as its result`, { next: over(text) }] as const
  ]),
  ["a key that is too long", { entries: [entry("k".repeat(maxKeyBytes + 1))] }],
  ["a time that is no number", { entries: [entry("a", { atMillis: Number.NaN })] }],
  ["a time without end", { entries: [entry("a", { atMillis: Infinity })] }],
  ["a message that is no number", { entries: [entry("a", { message: 0.5 })] }],
  ["a length below zero", { length: -1 }],
  ["a length that is no whole number", { length: 0.5 }],
  ["a length beyond all journals", { length: 2 ** 31 }],
  ["a time to continue that is no number", { next: waiting({ wakeAt: Number.NaN }) }]
]

export const inputPromises = <R>(it: It<R>): void => {
  describe("input", () => {
    it.effect.each(runs)("refuses a run with %s", ([, overrides]) =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const run = desk.run(overrides)
        assert.strictEqual((yield* refusal(desk.startAs(run, Option.none())))._tag, "InvalidPayload")
        const { claimed, id, worker } = yield* desk.holding()
        const commit = worker.commit(claimed, { entries: [entry("a")], children: [{ run, detached: false }] })
        assert.strictEqual((yield* refusal(commit))._tag, "InvalidPayload")
        assert.deepStrictEqual(yield* desk.runs.load(id, 0), [])
      }))

    it.effect.each(messages)(
      "refuses a message with %s, and those sent with it",
      ([, overrides]) =>
        Effect.gen(function*() {
          const desk = yield* makeDesk
          const { claimed, id, worker } = yield* desk.holding()
          const good = { run: id, key: "a", value: "1" }
          assert.strictEqual(
            (yield* refusal(desk.runs.send([good, { ...good, ...overrides }])))._tag,
            "InvalidPayload"
          )
          assert.deepStrictEqual(yield* worker.commit(claimed, {}), done("running"))
        })
    )

    it.effect.each(steps)("refuses a commit with %s, and records nothing of it", ([, step]) =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding()
        assert.strictEqual((yield* refusal(worker.commit(claimed, step)))._tag, "InvalidPayload")
        assert.deepStrictEqual(yield* desk.runs.load(id, 0), [])
        assert.deepStrictEqual(yield* worker.commit(claimed, { next: over() }), done("over"))
      }))

    it.effect("refuses what is too large, and keeps the largest there may be", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding()
        const [payload, value] = ["x".repeat(maxCarriedBytes), "y".repeat(maxValueBytes)]
        for (
          const refused of [
            desk.startAs(desk.run({ payload: `${payload}x` }), Option.none()),
            desk.runs.send([{ run: id, key: "a", value: `${value}y` }]),
            worker.commit(claimed, { entries: [entry("a", { value: `${value}y` })] }),
            worker.commit(claimed, { next: over(`${value}y`) })
          ]
        ) {
          const reason = yield* refusal(Effect.asVoid(refused))
          assert.strictEqual(reason._tag, "PayloadTooLarge")
        }
        const key = "k".repeat(maxKeyBytes)
        const largest = yield* desk.start({ payload, name: key })
        yield* desk.runs.send([{ run: largest, key, value }, { run: largest, key, value }])
        const [large] = yield* worker.claimIds([largest])
        assert.deepStrictEqual([large!.payload === payload, large!.name], [true, key])
        assert.isAtLeast(large!.unread.length, 1)
        assert.isTrue(large!.unread.every((message) => message.value === value && message.key === key))
        const answer = yield* worker.commit(large!, {
          entries: [entry(key, { value }), moved(large!.unread[0]!)]
        })
        assert(answer._tag === "Done")
        assert.lengthOf(answer.unread, 1)
        const loaded = yield* desk.runs.load(largest, 0)
        assert.deepStrictEqual(keysOf(loaded), [key, key])
        assert.isTrue(loaded.every((found) => found.value === value))
        const last = { ...large!, length: 2 }
        assert.deepStrictEqual(yield* worker.commit(last, { next: over(value) }), done("over"))
        assert.isTrue(Option.contains((yield* desk.read(largest)).result, value))
        assert.isTrue((yield* desk.read(largest)).payload === payload)
      }))

    it.effect("cuts why a run waits for a person, and removes what cannot be stored", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { id } = yield* desk.sleeping(waiting({ held: `no\u0000t \uD800${"x".repeat(10_000)}` }))
        const held = Option.getOrThrow((yield* desk.read(id)).held)
        assert.isTrue(held.startsWith("no\uFFFDt \uFFFDxx"))
        assert.isAtMost(held.length, maxDetailLength)
      }))

    it.effect("finds nothing for ids that are none", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const worker = yield* desk.hire()
        for (const id of ["", "one", "\u0000", "\uD800", uuid()]) {
          assert.deepStrictEqual(yield* desk.runs.load(id, 0), [])
          assert.deepStrictEqual(yield* worker.claimIds([id]), [])
        }
        const { claimed, id } = yield* desk.holding()
        for (const after of [-1, 0.5, Number.NaN, Infinity, 2 ** 40]) {
          assert.deepStrictEqual(yield* desk.runs.load(id, after), [])
        }
        assert.strictEqual(claimed.id, id)
      }))

    it.effect("of workflows and limits that are odd claims nothing", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const worker = yield* desk.hire()
        yield* desk.start()
        const claim = (workflows: ReadonlyArray<string>, limit: number) =>
          desk.runs.claim({ supervisor: worker.id, workflows, limit })
        assert.deepStrictEqual(yield* claim(["", "\u0000", "\uD800"], 10), [])
        for (const limit of [0, -1, 0.5, Number.NaN]) assert.deepStrictEqual(yield* claim([desk.workflow], limit), [])
        assert.lengthOf(yield* claim([desk.workflow, desk.workflow], Infinity), 1)
      }))

    it.effect("keeps odd keys and values as they are", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding()
        const odd = ["", " ", "'); DROP TABLE x; --", "{}", "\\N", "NULL", "a,b", "\"", "\n\t\u0001", "😀", "é\u0301"]
        const entries = odd.map((text) => entry(text, { value: text }))
        yield* worker.commit(claimed, { entries })
        assert.deepStrictEqual(yield* desk.runs.load(id, 0), entries.map(inJournal))
        yield* desk.runs.send(odd.map((text) => ({ run: id, key: text, value: text })))
        const answer = yield* worker.commit({ ...claimed, length: odd.length }, {})
        assert(answer._tag === "Done")
        assert.deepStrictEqual(answer.unread.map(({ key, value }) => [key, value]), odd.map((text) => [text, text]))
      }))
  })
}
