/** Checks the options of a definition where their types cannot, and for callers without types. */
import * as Duration from "effect/Duration"
import * as Formatter from "effect/Formatter"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import * as Limits from "../Limits.ts"
import { queue as runQueue } from "../RunStore.ts"
import { utf8Bytes } from "./text.ts"

const Amount = Schema.Finite.check(Schema.isGreaterThanOrEqualTo(0))

const count = (maximum: number) => Schema.Int.check(Schema.isBetween({ minimum: 1, maximum }))

const Name = Schema.NonEmptyString.check(
  Schema.makeFilter((name) =>
    utf8Bytes(name, Limits.maxNameBytes) <= Limits.maxNameBytes || `Expected at most ${Limits.maxNameBytes} bytes`
  )
)

const Checked = Schema.Struct({
  name: Name,
  queue: Name.check(
    Schema.makeFilter((queue) => queue !== runQueue || "Expected another queue: this one is for workflows")
  ),
  priority: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 9 })),
  attempts: Schema.optional(count(Limits.maxAttemptsOfSchedule)),
  placement: Schema.Struct({
    mode: Schema.optional(Schema.Literal("pool")),
    cpus: Schema.optional(Amount),
    memory: Schema.optional(Schema.Int.check(Schema.isGreaterThan(0))),
    resources: Schema.optional(Schema.Record(Schema.String, Amount)),
    concurrency: Schema.optional(count(Limits.maxSlots)),
    maxHosts: Schema.optional(count(Limits.maxHosts)),
    thread: Schema.optional(Schema.Literals(["worker", "main"])),
    runtimeEnv: Schema.optional(Schema.Struct({ pip: Schema.optional(Schema.Array(Schema.NonEmptyString)) }))
  })
})

const decode = Schema.decodeUnknownResult(Checked, { errors: "all", onExcessProperty: "error" })

const issuesOf = SchemaIssue.makeFormatterStandardSchemaV1()

/** Throws an error that names the task, the options and their values. Definitions are made when a module is loaded. */
export const check = (options: typeof Checked.Encoded): void => {
  const checked = decode(options)
  if (checked._tag === "Success") return
  const details = issuesOf(checked.failure.issue).issues.map(({ message, path = [] }) => {
    const value = path.reduce<unknown>(
      (value, key) => (value as Record<PropertyKey, unknown>)[key as PropertyKey],
      options
    )
    return `${path.map(String).join(".")} is ${Formatter.format(value)}: ${message}`
  })
  refuse(options.name, details.join("; "))
}

/** Checks the attempts of one host: its whole CPUs times its concurrency, defaults included. Throws as `check` does. */
export const checkSlots = (name: string, placement: { readonly cpus: number; readonly concurrency: number }): void => {
  const { concurrency, cpus } = placement
  if (Math.max(1, Math.floor(cpus)) * concurrency <= Limits.maxSlots) return
  refuse(
    name,
    `placement has cpus ${cpus} and concurrency ${concurrency}: expected at most ${Limits.maxSlots} attempts in one host, `
      + "that is, its whole cpus times its concurrency"
  )
}

/** A time limit: positive and finite. Throws as `check` does. */
export const timeout = (name: string, input: Duration.Input): Duration.Duration => {
  const duration = Option.getOrUndefined(Duration.fromInput(input))
  const millis = duration === undefined ? Number.NaN : Duration.toMillis(duration)
  if (millis > 0 && Number.isFinite(millis)) return duration!
  return refuse(name, `timeout is ${Formatter.format(input)}: expected a finite duration above zero`)
}

const refuse = (name: string, detail: string): never => {
  throw new Error(`Task ${JSON.stringify(name)}: ${detail}`)
}
