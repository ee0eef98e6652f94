/**
 * Shows what handlers on this machine's Ray write, in this process's own log.
 *
 * Ray writes the output of its workers to files of the session. Each line is logged as it comes, with its task and
 * execution if Effect's logger wrote it.
 */
import { cleanText } from "@effect-ray/ray/RayError"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import { StringDecoder } from "node:string_decoder"

/** How often the files are read. */
const interval = "250 millis"

/** The most bytes that are read from one file at a time, so that a handler that floods its log delays no other. */
const maxRead = 256 * 1024

/**
 * How far behind a file this may be, in bytes. Beyond that, everything but the end is skipped, because recent output
 * matters more.
 */
const maxBehind = 4 * 1024 * 1024

/** A longer line is logged in pieces, in characters. */
const maxLineLength = 16 * 1024

const workerFile = /^worker-.*-(\d+)\.(?:out|err)$/

/** Ray's own lines in these files: its markers, messages of its core, and messages about the gateway's job. */
const rays = new RegExp(
  [
    String.raw`:(?:job_id|task_name|actor_name):`,
    String.raw`\[\d{4}-\d\d-\d\d [^\]]*\] `,
    String.raw`\[repeated `,
    String.raw`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}\tINFO \w+\.py:\d+ -- `,
    String.raw`Found multiple active Ray instances: `
  ].map((beginning) => `^${beginning}`).join("|")
)

const level = { FATAL: "Fatal", ERROR: "Error", WARN: "Warn", INFO: "Info", DEBUG: "Debug", TRACE: "Trace" } as const

/** A line of Effect's JSON logger, or of the host itself. */
const Line = Schema.Struct({
  level: Schema.Literals(Object.keys(level) as [keyof typeof level]),
  message: Schema.Unknown,
  annotations: Schema.optionalKey(Schema.Record(Schema.String, Schema.Unknown)),
  cause: Schema.optionalKey(Schema.Unknown)
})

const decode = Schema.decodeUnknownOption(Line)

const parse = (text: string): Option.Option<typeof Line.Type> => {
  try {
    return decode(clean(JSON.parse(text)))
  } catch {
    return Option.none()
  }
}

/** Removes what a terminal would obey from every text that a handler logged. */
const clean = (logged: unknown): unknown => {
  if (typeof logged === "string") return cleanText(logged)
  if (Array.isArray(logged)) return logged.map(clean)
  if (typeof logged !== "object" || logged === null) return logged
  return Object.fromEntries(Object.entries(logged).map(([key, value]) => [cleanText(key), clean(value)]))
}

/** Logs one line. What a host says about itself is only shown if something is wrong. */
const tell = (pid: string, said: string): Effect.Effect<void> => {
  const text = cleanText(said)
  if (text.trim() === "" || rays.test(text)) return Effect.void
  const line = text.startsWith("{") ? parse(text) : Option.none()
  if (Option.isNone(line)) return Effect.annotateLogs(Effect.logInfo(text), { host: `pid ${pid}` })
  const { annotations, cause, message } = line.value
  if (annotations?.["task"] === undefined && line.value.level === "INFO") return Effect.void
  const messages = Array.isArray(message) ? message : [message]
  return Effect.annotateLogs(
    Effect.logWithLevel(level[line.value.level])(...messages, ...(cause === undefined ? [] : [cause])),
    annotations ?? { host: `pid ${pid}` }
  )
}

interface Followed {
  /** Distinguishes a file from an earlier one of the same name. */
  readonly inode: bigint | undefined
  offset: number
  /** The beginning of a line that is not complete yet. */
  rest: string
  readonly decoder: StringDecoder
}

const begin = (inode: bigint | undefined, offset: number): Followed => ({
  inode,
  offset,
  rest: "",
  decoder: new StringDecoder("utf8")
})

/** Follows the files of a folder without end. Skips what was written before; the folder may change each time. */
export const follow = (
  folder: Effect.Effect<string>
): Effect.Effect<never, never, FileSystem.FileSystem | Path.Path> =>
  Effect.gen(function*() {
    const fs = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    const files = new Map<string, Followed>()
    let isFirst = true

    const identify = (file: string) =>
      Effect.map(fs.stat(file), ({ ino, size }) => ({ inode: Option.getOrUndefined(ino), size: Number(size) }))

    const read = Effect.fnUntraced(function*(file: string, pid: string) {
      const { inode, size } = yield* identify(file)
      const followed = files.get(file)
      if (followed === undefined || (inode === followed.inode && size >= followed.offset)) {
        const next = followed ?? begin(inode, isFirst ? size : 0)
        files.set(file, next)
        return yield* readOn(file, pid, next, size)
      }
      // The file was rotated: the rest of the previous one comes first.
      const before = yield* Effect.option(identify(`${file}.1`))
      if (Option.isSome(before) && before.value.inode === followed.inode && before.value.size > followed.offset) {
        return yield* readOn(`${file}.1`, pid, followed, before.value.size)
      }
      const next = begin(inode, 0)
      files.set(file, next)
      yield* readOn(file, pid, next, size)
    })

    const readOn = Effect.fnUntraced(function*(file: string, pid: string, followed: Followed, size: number) {
      if (size === followed.offset) return
      const skipped = size - followed.offset > maxBehind ? size - followed.offset - maxRead : 0
      if (skipped > 0) {
        followed.offset += skipped
        followed.rest = ""
        yield* Effect.annotateLogs(
          Effect.logWarning(`${Math.round(skipped / 1e6)} MB of output skipped, see ${file}`),
          { host: `pid ${pid}` }
        )
      }
      const opened = yield* fs.open(file)
      yield* opened.seek(BigInt(followed.offset), "start")
      const chunk = yield* opened.readAlloc(maxRead)
      if (Option.isNone(chunk)) return
      followed.offset += chunk.value.length
      const lines = (followed.rest + followed.decoder.write(chunk.value)).split("\n")
      // The end of a line whose beginning was skipped.
      if (skipped > 0 && lines.length > 1) lines.shift()
      followed.rest = lines.pop()!
      if (followed.rest.length > maxLineLength) {
        lines.push(followed.rest)
        followed.rest = ""
      }
      for (const line of lines) yield* tell(pid, line.slice(0, maxLineLength))
    }, Effect.scoped)

    const look = Effect.gen(function*() {
      const logs = yield* folder
      for (const name of yield* fs.readDirectory(logs)) {
        const pid = workerFile.exec(name)?.[1]
        // A file that is gone has nothing more to show.
        if (pid !== undefined) yield* Effect.ignore(read(path.join(logs, name), pid))
      }
      isFirst = false
    })
    return yield* Effect.ignore(look).pipe(Effect.repeat(Schedule.spaced(interval)), Effect.andThen(Effect.never))
  })
