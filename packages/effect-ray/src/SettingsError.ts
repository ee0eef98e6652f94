/**
 * What is wrong with the settings: everything at once, each with its name, its value and the fix.
 */
import * as Option from "effect/Option"
import * as Runtime from "effect/Runtime"
import * as Schema from "effect/Schema"

/**
 * What is wrong with one setting.
 *
 * @category models
 */
export const Problem = Schema.Struct({
  /** The setting's name, or the name of a flag that is not a setting. */
  setting: Schema.String,
  /** The flag or variable that the user wrote; `None` if neither was given. */
  source: Schema.Option(Schema.String),
  /** The text that the user wrote; `None` if it is missing or secret. */
  value: Schema.Option(Schema.String),
  /** The end of a sentence that begins with the setting's name. */
  problem: Schema.String,
  /** A sentence that says what to do. */
  fix: Schema.String
})

/** As `Problem` describes it. @category models */
export type Problem = typeof Problem.Type

/**
 * Describes a problem in two sentences.
 *
 * @category formatting
 */
export const describe = (problem: Problem): string => {
  const name = Option.match(problem.source, {
    onNone: () => problem.setting,
    onSome: (source) => source === problem.setting ? source : `${source} (${problem.setting})`
  })
  const value = Option.match(problem.value, {
    onNone: () => Option.isSome(problem.source) ? " (its value is hidden)" : "",
    onSome: (text) => ` ${JSON.stringify(text)}`
  })
  return `${name}${value} ${problem.problem}. ${problem.fix}`
}

/**
 * The settings are wrong; nothing was started. The process ends with code 2.
 *
 * @category errors
 */
export class SettingsError extends Schema.TaggedError<SettingsError>("effect-ray/SettingsError")("SettingsError", {
  problems: Schema.NonEmptyArray(Problem)
}) {
  override readonly [Runtime.errorExitCode] = 2
  override get message() {
    return this.problems.map(describe).join("\n")
  }
}
