/**
 * What handlers say on this machine's Ray, in this process's own log.
 *
 * Ray writes what its workers print to files of the session: each line is told as it comes, with its task and
 * execution where it was logged by Effect.
 */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import { StringDecoder } from "node:string_decoder"

/** How often the files are looked at. */
const interval = "250 millis"

/** The most that one look reads of one file, in bytes: a handler that floods its log holds up nothing else. */
const maxRead = 256 * 1024

/** A longer line is told in pieces, in characters. */
const maxLineLength = 16 * 1024

const workerFile = /^worker-.*-(\d+)\.(?:out|err)$/

/** Ray's own lines in these files: its markers, and what its core says. */
const rays = /^(?::(?:job_id|task_name|actor_name):|\[\d{4}-\d\d-\d\d [^\]]*\] |\[repeated )/

const level = { FATAL: "Fatal", ERROR: "Error", WARN: "Warn", INFO: "Info", DEBUG: "Debug", TRACE: "Trace" } as const

/** A line of Effect's JSON logger, or of a host's own. */
const Line = Schema.fromJsonString(Schema.Struct({
  level: Schema.Literals(Object.keys(level) as [keyof typeof level]),
  message: Schema.Unknown,
  annotations: Schema.optionalKey(Schema.Record(Schema.String, Schema.Unknown)),
  cause: Schema.optionalKey(Schema.Unknown)
}))

const decode = Schema.decodeUnknownOption(Line)

/** Tells one line. What a host says of itself matters only when something is wrong. */
const tell = (pid: string, text: string): Effect.Effect<void> => {
  if (text.trim() === "" || rays.test(text)) return Effect.void
  const line = text.startsWith("{") ? decode(text) : Option.none()
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
  /** A file of the same name that was begun anew has another one. */
  readonly inode: bigint | undefined
  offset: number
  /** The beginning of a line whose end has not been written. */
  rest: string
  readonly decoder: StringDecoder
}

/** Follows the files of a folder, for good. What was written before is left out; the folder may be another one each time. */
export const follow = (
  folder: Effect.Effect<string>
): Effect.Effect<never, never, FileSystem.FileSystem | Path.Path> =>
  Effect.gen(function*() {
    const fs = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    const files = new Map<string, Followed>()
    let isFirst = true

    const read = Effect.fnUntraced(function*(file: string, pid: string) {
      const { ino, size } = yield* fs.stat(file)
      const inode = Option.getOrUndefined(ino)
      let followed = files.get(file)
      if (followed === undefined || inode !== followed.inode || Number(size) < followed.offset) {
        const offset = followed === undefined && isFirst ? Number(size) : 0
        files.set(file, followed = { inode, offset, rest: "", decoder: new StringDecoder("utf8") })
      }
      if (Number(size) === followed.offset) return
      const opened = yield* fs.open(file)
      yield* opened.seek(BigInt(followed.offset), "start")
      const chunk = yield* opened.readAlloc(maxRead)
      if (Option.isNone(chunk)) return
      followed.offset += chunk.value.length
      const lines = (followed.rest + followed.decoder.write(chunk.value)).split("\n")
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
        // One that is gone by now has nothing more to tell.
        if (pid !== undefined) yield* Effect.ignore(read(path.join(logs, name), pid))
      }
      isFirst = false
    })
    return yield* Effect.ignore(look).pipe(Effect.repeat(Schedule.spaced(interval)), Effect.andThen(Effect.never))
  })
