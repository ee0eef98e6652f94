/**
 * Where the connection for LISTEN leads.
 *
 * The settings given for it come first, and the client's own fill in the rest. Not the client's address, once another
 * is given: the driver prefers a field to a URL, and would listen at the client's pooler. A port alone is not another
 * address, but changes the client's.
 */
import type { PgClientConfig } from "@effect/sql-pg/PgClient"
import * as Duration from "effect/Duration"
import * as Redacted from "effect/Redacted"

type Key = keyof PgClientConfig

/** The fields that make it another address. */
const destination: ReadonlyArray<Key> = ["url", "host", "path", "stream"]

/** The fields of an address. */
const address: ReadonlyArray<Key> = [...destination, "port"]

/** The parameters and parts of a libpq URL that set a field. */
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

/** Everything that a URL says except the address, as fields, so that it can be used without the URL. */
const fieldsOf = (url: URL | undefined): PgClientConfig => {
  if (url === undefined) return {}
  const text = (key: string, part: string) =>
    url.searchParams.get(key) ?? (part === "" ? undefined : decodeURIComponent(part))
  const password = text("password", url.password)
  const mode = url.searchParams.get("sslmode")
  const seconds = url.searchParams.get("connect_timeout")
  return {
    username: text("user", url.username),
    password: password === undefined ? undefined : Redacted.make(password),
    database: text("dbname", url.pathname.slice(1)),
    ssl: mode === null || isOptional(mode) ? undefined : mode !== "disable",
    applicationName: text("application_name", ""),
    startupOptions: text("options", ""),
    connectTimeout: seconds === null
      ? undefined
      : seconds === "0"
      ? Duration.infinity
      : Duration.seconds(Number(seconds))
  }
}

/** TLS if the server supports it, which no field can express. */
const isOptional = (mode: string | null): mode is "prefer" | "allow" => mode === "prefer" || mode === "allow"

const withMode = (url: URL = new URL("postgres:///"), mode: string): PgClientConfig => {
  url.searchParams.set("sslmode", mode)
  return { url: Redacted.make(url.href) }
}

/** Removes fields that are not set: a field that is `undefined` would hide another. */
const defined = (config: PgClientConfig): PgClientConfig =>
  Object.fromEntries(Object.entries(config).filter(([, value]) => value !== undefined))

export const listenConfig = (client: PgClientConfig, listen: PgClientConfig = {}): PgClientConfig => {
  const given = defined(listen)
  if (!destination.some((key) => key in given)) return { ...client, ...given }
  const clientUrl = parse(client.url)
  const own = { ...defined(fieldsOf(clientUrl)), ...defined(client) }
  for (const key of address) delete own[key]
  const url = parse(listen.url)
  for (const said of saidBy) if (url !== undefined && says(url, said)) delete own[said[0]]
  const merged = { ...own, ...given }
  const mode = clientUrl?.searchParams.get("sslmode") ?? null
  return isOptional(mode) && merged.ssl === undefined && url?.searchParams.has("sslmode") !== true
    ? { ...merged, ...withMode(url, mode) }
    : merged
}
