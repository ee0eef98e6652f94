/** Says what to do about a layer that cannot be built on a host, if the error shows it. */
import * as Config from "effect/Config"
import * as SchemaIssue from "effect/SchemaIssue"

const issuesOf = SchemaIssue.makeFormatterStandardSchemaV1()

/** Returns the variables that a `Config` did not find in the host's environment. */
const missing = (error: Config.ConfigError): ReadonlyArray<string> => {
  if (error.cause._tag !== "SchemaError") return []
  const names = issuesOf(error.cause.issue).issues.map(({ path = [] }) => path.map(String).join("_"))
  return names.filter((name) => name !== "" && process.env[name] === undefined)
}

const missingOf = (error: unknown): ReadonlyArray<string> => {
  try {
    return error instanceof Config.ConfigError ? missing(error) : []
  } catch {
    // A proxy may throw on any access. The error itself is reported elsewhere.
    return []
  }
}

/** Returns a sentence, or undefined. Hosts only see the variables that the worker names. */
export const cureOf = (error: unknown): string | undefined => {
  const names = missingOf(error)
  if (names.length === 0) return undefined
  const list = names.map((name) => JSON.stringify(name)).join(", ")
  return `hosts see no variable ${
    names.join(", ")
  }: name it in Worker.make({ env: [${list}] }) and set it where the worker starts`
}
