/**
 * Where the connection for LISTEN leads.
 *
 * What is given for it decides, and the client's own settings fill in what that leaves open. Not its address, once another
 * is given: the driver lets a field win over a url, and would listen at the client's pooler.
 */
import type { PgClientConfig } from "@effect/sql-pg/PgClient"
import * as Redacted from "effect/Redacted"

type Key = keyof PgClientConfig

/** What an address is made of. */
const address: ReadonlyArray<Key> = ["url", "host", "port", "path", "stream"]

/** Whether a url of libpq says something, and by which parameter it could. */
const saidBy: ReadonlyArray<readonly [key: Key, parameter: string, part: (url: URL) => string]> = [
  ["username", "user", (url) => url.username],
  ["password", "password", (url) => url.password],
  ["database", "dbname", (url) => url.pathname.slice(1)],
  ["ssl", "sslmode", () => ""],
  ["applicationName", "application_name", () => ""],
  ["startupOptions", "options", () => ""],
  ["connectTimeout", "connect_timeout", () => ""]
]

const parse = (url: Redacted.Redacted | undefined): URL | undefined =>
  url !== undefined && URL.canParse(Redacted.value(url)) ? new URL(Redacted.value(url)) : undefined

const says = (url: URL, [, parameter, part]: (typeof saidBy)[number]): boolean =>
  part(url) !== "" || url.searchParams.has(parameter)

/** What the client's url says that its fields do not, as fields, so that it can be used without the url. */
const credentials = (client: PgClientConfig): PgClientConfig => {
  const url = parse(client.url)
  if (url === undefined) return {}
  const text = (key: string, part: string) =>
    url.searchParams.get(key) ?? (part === "" ? undefined : decodeURIComponent(part))
  const password = text("password", url.password)
  return {
    username: text("user", url.username),
    password: password === undefined ? undefined : Redacted.make(password),
    database: text("dbname", url.pathname.slice(1))
  }
}

/** Without what is not set: a field that is `undefined` would hide another. */
const defined = (config: PgClientConfig): PgClientConfig =>
  Object.fromEntries(Object.entries(config).filter(([, value]) => value !== undefined))

export const listenConfig = (client: PgClientConfig, listen: PgClientConfig = {}): PgClientConfig => {
  const given = defined(listen)
  if (!address.some((key) => key in given)) return { ...client, ...given }
  const own = { ...credentials(client), ...defined(client) }
  for (const key of address) delete own[key]
  const url = parse(listen.url)
  for (const said of saidBy) if (url !== undefined && says(url, said)) delete own[said[0]]
  return { ...defined(own), ...given }
}
