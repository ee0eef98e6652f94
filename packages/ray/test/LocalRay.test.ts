import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import { TestClock } from "effect/testing"
import { spawn, spawnSync } from "node:child_process"
import { createHash, randomBytes } from "node:crypto"
import * as fs from "node:fs"
import * as net from "node:net"
import * as os from "node:os"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { isHeadFolder, makeHeadFolder, rayIn, removeHeadFolder } from "../src/internal/headFolder.ts"
import { addUser, hasUsers } from "../src/internal/headUsers.ts"
import { processId } from "../src/internal/processes.ts"
import * as LocalRay from "../src/LocalRay.ts"
import { eventually, isAlive, ray, tempFolder } from "./support.ts"

/** The processes of a group, its own workers included, which Ray puts into groups of their own. */
const tree = (root: number): ReadonlySet<number> => {
  const parents = fs.readdirSync("/proc").filter((name) => /^\d+$/.test(name)).flatMap((name) => {
    try {
      const fields = fs.readFileSync(`/proc/${name}/stat`, "utf8").replace(/^.*\) /s, "").split(" ")
      return [[Number(name), Number(fields[1])] as const]
    } catch {
      return []
    }
  })
  const found = new Set([root])
  for (let size = 0; size !== found.size;) {
    size = found.size
    for (const [pid, parent] of parents) if (found.has(parent)) found.add(pid)
  }
  return found
}

/** The local addresses that a set of processes listens to, in the kernel's own hexadecimal. */
const listeners = (pids: ReadonlySet<number>): ReadonlyArray<string> => {
  const sockets = new Set<string>()
  for (const pid of pids) {
    try {
      for (const fd of fs.readdirSync(`/proc/${pid}/fd`)) sockets.add(fs.readlinkSync(`/proc/${pid}/fd/${fd}`))
    } catch {
      // It ended, or closed the descriptor, while we looked.
    }
  }
  return ["tcp", "tcp6"].flatMap((table) =>
    fs.readFileSync(`/proc/net/${table}`, "utf8").split("\n").slice(1).flatMap((line) => {
      const fields = line.trim().split(/\s+/)
      return fields[3] === "0A" && sockets.has(`socket:[${fields[9]}]`) ? [fields[1]!.split(":")[0]!] : []
    })
  )
}

const isOpen = (port: number) =>
  Effect.callback<boolean>((resume) => {
    const socket = net.connect(port, "127.0.0.1", () => resume(Effect.succeed(true)))
    socket.on("error", () => resume(Effect.succeed(false)))
    return Effect.sync(() => socket.destroy())
  })

/** Runs a fixture until it is killed, and answers the first line that it says. */
const spawned = Effect.fnUntraced(function*(fixture: string, stateFolder: string) {
  const file = fileURLToPath(new URL(`./fixtures/${fixture}`, import.meta.url))
  const child = spawn(process.execPath, ["--conditions=@effect-ray/source", file, stateFolder], {
    stdio: ["ignore", "pipe", "inherit"]
  })
  let told = ""
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => told += chunk)
  yield* Effect.addFinalizer(() => Effect.sync(() => child.kill("SIGKILL")))
  yield* eventually(Effect.sync(() => told), (told) => told.endsWith("\n"))
  return { child, told }
})

/** 127.0.0.1, ::ffff:127.0.0.1 and ::1. */
const loopback = ["0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"]

const nobody = { uid: 65_534, gid: 65_534 }

/** A process that has nothing to do with Ray, and leads a group. */
const innocent = Effect.acquireRelease(
  Effect.sync(() => spawn("sleep", ["600"], { detached: true, stdio: "ignore" })),
  (child) => Effect.sync(() => child.kill("SIGKILL"))
)

/** What a head with this token writes into. */
const headFolder = (token: string) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const folder = fs.mkdtempSync(path.join(os.tmpdir(), "er-"))
      fs.writeFileSync(path.join(folder, "head"), createHash("sha256").update(token).digest("hex"))
      fs.writeFileSync(path.join(folder, "kept"), "")
      return folder
    }),
    (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true }))
  )

/** A `ray` that ends at once. */
const brokenRay = Effect.map(tempFolder, (folder) => {
  const file = path.join(folder, "ray")
  fs.writeFileSync(file, "#!/bin/sh\necho no such luck\nexit 3\n", { mode: 0o755 })
  return file
})

describe("LocalRay", () => {
  it.live("listens to loopback only", () =>
    Effect.gen(function*() {
      if (ray.stateFolder === "") return
      const head = yield* LocalRay.make({ stateFolder: ray.stateFolder })
      const found = yield* eventually(Effect.sync(() => listeners(tree(head.pid))), (all) => all.length > 5)
      assert.deepStrictEqual(found.filter((address) => !loopback.includes(address)), [])
    }))

  it.live("finds the head that is recorded, and leaves it running", () =>
    Effect.gen(function*() {
      if (ray.stateFolder === "") return
      const once = Effect.scoped(LocalRay.make({ stateFolder: ray.stateFolder }))
      const [first, second] = [yield* once, yield* once]
      assert.isTrue(first.found && second.found)
      assert.strictEqual(second.address, ray.address)
      assert.strictEqual(fs.statSync(path.join(ray.stateFolder, "ray.json")).mode & 0o777, 0o600)
    }))

  it.live("is gone when its last user has left: no process, no port, no file", () =>
    Effect.gen(function*() {
      if (ray.stateFolder === "") return
      const stateFolder = yield* tempFolder
      const { head, logs, port } = yield* Effect.scoped(Effect.gen(function*() {
        const { address, logs, pid } = yield* LocalRay.make({ stateFolder })
        assert.isTrue(fs.readdirSync(logs).length > 0)
        assert.match(fs.readlinkSync(path.resolve(logs, "..")), /\/er-\w+\/ray\/session_/)
        return { head: tree(pid), logs, port: Number(new URL(address).port) }
      }))
      assert.deepStrictEqual(Array.from(head).filter(isAlive), [])
      assert.isFalse(yield* isOpen(port))
      assert.isFalse(fs.existsSync(path.resolve(logs, "../../..")))
    }))

  it.live("lets no other user read or replace what Ray writes, packages that it is about to run included", () =>
    Effect.gen(function*() {
      if (ray.stateFolder === "") return
      const { logs } = yield* LocalRay.make({ stateFolder: ray.stateFolder })
      const session = fs.realpathSync(path.resolve(logs, ".."))
      const folder = path.resolve(logs, "../../..")
      const { mode, uid } = fs.statSync(folder)
      assert.deepStrictEqual([mode & 0o777, uid], [0o700, process.getuid!()])
      for (const name of ["ray.json", "ray.log"]) {
        assert.strictEqual(fs.statSync(path.join(ray.stateFolder, name)).mode & 0o077, 0)
      }
      if (process.getuid!() !== 0) return
      for (
        const inside of [folder, session, logs, path.join(session, "sockets"), path.join(session, "runtime_resources")]
      ) {
        assert.isTrue(fs.existsSync(inside))
        for (const command of ["ls", "touch"]) {
          const tried = spawnSync(command, [path.join(inside, command === "ls" ? "." : "planted")], {
            ...nobody,
            encoding: "utf8"
          })
          assert.match(tried.stderr, /Permission denied/, `${command} ${inside}`)
        }
      }
    }))

  it.live("ends when the last of its users is killed", () =>
    Effect.gen(function*() {
      if (ray.stateFolder === "") return
      const stateFolder = yield* tempFolder
      const { child: user, told } = yield* spawned("headUser.ts", stateFolder)
      const head = tree(Number(told))
      assert.isAbove(head.size, 5)
      user.kill("SIGKILL")
      yield* eventually(Effect.sync(() => Array.from(head).filter(isAlive)), (alive) => alive.length === 0)
      assert.isFalse(fs.existsSync(path.join(stateFolder, "ray.json")))
    }))

  it.live("does not take a user that is about to come for one that is gone", () =>
    Effect.gen(function*() {
      const stateFolder = yield* tempFolder
      yield* spawned("headLooker.ts", stateFolder)
      let lost = 0
      let last = addUser(stateFolder)
      for (let user = 0; user < 3_000; user++) {
        const next = addUser(stateFolder)
        if (!fs.existsSync(last)) lost++
        fs.rmSync(last, { force: true })
        last = next
      }
      assert.strictEqual(lost, 0)
    }))

  it.live("touches no process and no folder that a record names and that is not a head of its own", () =>
    Effect.gen(function*() {
      const bystander = yield* innocent
      const id = processId(bystander.pid!)
      const folder = yield* headFolder("another token")
      const plain = yield* tempFolder
      fs.writeFileSync(path.join(plain, "kept"), "")
      const head = {
        address: "http://127.0.0.1:1",
        token: "0".repeat(64),
        folder,
        keeper: id
      }
      for (
        const record of [
          // Alive, and in every way as recorded, but no keeper.
          head,
          { ...head, folder: plain },
          { ...head, folder: "/" },
          { ...head, folder: "." },
          // The number of another process, before a reboot and in another container.
          { ...head, keeper: { ...id, started: "1" } },
          { ...head, keeper: { ...id, boot: "another" } },
          { ...head, keeper: { ...id, namespace: "another" } },
          // Ours, and those that mean everybody.
          { ...head, keeper: processId(process.pid) },
          ...[1, 0, -1, -bystander.pid!].map((pid) => ({ ...head, keeper: { ...id, pid } })),
          { ...head, tempDir: folder, folder: undefined },
          { ...head, keeper: { pid: bystander.pid, started: id.started } }
        ]
      ) {
        const stateFolder = yield* tempFolder
        fs.writeFileSync(path.join(stateFolder, "ray.json"), JSON.stringify(record))
        const error = yield* Effect.flip(Effect.scoped(LocalRay.make({ stateFolder, ray: yield* brokenRay })))
        assert.include(error.message, "no such luck")
        assert.isTrue(isAlive(bystander.pid!), JSON.stringify(record))
        for (const kept of [folder, plain]) {
          assert.isTrue(fs.existsSync(path.join(kept, "kept")), JSON.stringify(record))
        }
      }
    }))

  it.live("deletes the folder of a head of its own that did not survive a reboot", () =>
    Effect.gen(function*() {
      const bystander = yield* innocent
      const token = randomBytes(32).toString("hex")
      const folder = yield* headFolder(token)
      const stateFolder = yield* tempFolder
      const keeper = { ...processId(bystander.pid!), boot: "before" }
      fs.writeFileSync(
        path.join(stateFolder, "ray.json"),
        JSON.stringify({ address: "http://127.0.0.1:1", token, folder, keeper })
      )
      yield* Effect.flip(LocalRay.make({ stateFolder, ray: yield* brokenRay }))
      assert.isFalse(fs.existsSync(folder))
      assert.isTrue(isAlive(bystander.pid!))
    }))

  it.live("ends what a killed keeper left behind", () =>
    Effect.gen(function*() {
      if (ray.stateFolder === "") return
      const stateFolder = yield* tempFolder
      const head = yield* Effect.scoped(Effect.gen(function*() {
        const { logs, pid } = yield* LocalRay.make({ stateFolder })
        const head = tree(pid)
        process.kill(pid, "SIGKILL")
        return { folder: path.resolve(logs, "../../.."), head }
      }))
      yield* eventually(Effect.sync(() => Array.from(head.head).filter(isAlive)), (alive) => alive.length === 0)
      assert.isFalse(fs.existsSync(head.folder))
    }))

  it.live("leaves room for the paths of Ray's sockets, however long the temporary folder's is", () =>
    Effect.gen(function*() {
      const before = process.env["TMPDIR"]
      const root = yield* tempFolder
      yield* Effect.addFinalizer(() =>
        Effect.sync(() => {
          if (before === undefined) delete process.env["TMPDIR"]
          else process.env["TMPDIR"] = before
        })
      )
      // With the longest number of a process.
      const socket = "session_2026-11-27_00-56-21_697997_4194304/sockets/dash_UsageStatsHead"
      for (const temporary of ["/tmp", "/var/tmp", root, path.join(root, "x".repeat(60))]) {
        fs.mkdirSync(temporary, { recursive: true })
        process.env["TMPDIR"] = temporary
        const folder = makeHeadFolder("token")
        try {
          assert.isTrue(isHeadFolder(folder, "token"))
          assert.isFalse(isHeadFolder(folder, "another"))
          assert.isAtMost(path.join(rayIn(folder), socket).length, 103)
        } finally {
          removeHeadFolder(folder)
        }
        assert.isFalse(fs.existsSync(folder))
      }
    }))

  it.live("goes on when its state files hold rubbish", () =>
    Effect.gen(function*() {
      const rubbish = [
        "",
        "null",
        "{}",
        "[]",
        `{"pid":-1}`,
        `{"pid":1}`,
        `{"pid":"1","started":2}`,
        "\0\xff",
        "9".repeat(99)
      ]
      for (const text of rubbish) {
        const stateFolder = yield* tempFolder
        fs.mkdirSync(path.join(stateFolder, "users"))
        for (const name of ["ray.json", "ray.lock", "users/1", "ray.log"]) {
          fs.writeFileSync(path.join(stateFolder, name), text)
        }
        const error = yield* Effect.flip(Effect.scoped(LocalRay.make({ stateFolder, ray: yield* brokenRay })))
        assert.include(error.message, "no such luck", JSON.stringify(text))
        assert.deepStrictEqual(fs.readdirSync(path.join(stateFolder, "users")), [])
      }
    }))

  it.live("counts no user that cannot be seen from here, and keeps those that are seen elsewhere", () =>
    Effect.gen(function*() {
      const stateFolder = yield* tempFolder
      const own = addUser(stateFolder)
      const id = processId(process.pid)
      const file = (name: string) => path.join(stateFolder, "users", name)
      fs.writeFileSync(file("rebooted"), JSON.stringify({ ...id, boot: "another" }))
      for (const name of ["container", "stopped"]) {
        fs.writeFileSync(file(name), JSON.stringify({ ...id, namespace: "another" }))
      }
      const longAgo = new Date(Date.now() - 3_600_000)
      for (const old of [file("stopped"), own]) fs.utimesSync(old, longAgo, longAgo)
      for (let looks = 0; looks < 3; looks++) {
        assert.isTrue(hasUsers(stateFolder))
        assert.deepStrictEqual(fs.readdirSync(path.join(stateFolder, "users")).sort(), [
          path.basename(own),
          "container"
        ])
        // Seen here, and so not gone for those who cannot see it.
        assert.isAbove(fs.statSync(own).mtimeMs, longAgo.getTime())
      }
      fs.rmSync(own)
      assert.isFalse(hasUsers(stateFolder))
      assert.deepStrictEqual(fs.readdirSync(path.join(stateFolder, "users")), ["container"])
    }))

  it.live("keeps its state folder to this user, and refuses one in which another user may have put something", () =>
    Effect.gen(function*() {
      const parent = yield* tempFolder
      const options = { ray: yield* brokenRay }
      const refused = (stateFolder: string) =>
        Effect.map(Effect.flip(LocalRay.make({ ...options, stateFolder })), ({ message, reason }) => {
          assert.strictEqual(reason._tag, "UnsafeFolder")
          return message
        })
      const open = path.join(parent, "open")
      fs.mkdirSync(open, { mode: 0o755 })
      yield* Effect.flip(LocalRay.make({ ...options, stateFolder: open }))
      assert.strictEqual(fs.statSync(open).mode & 0o777, 0o700)

      const link = path.join(parent, "link")
      fs.symlinkSync(open, link)
      assert.match(yield* refused(link), /link cannot be used: it is a link\. Remove it/)
      const file = path.join(parent, "file")
      fs.writeFileSync(file, "")
      assert.match(yield* refused(file), /it is not a folder/)
      fs.symlinkSync("/etc/passwd", path.join(open, "ray.json"))
      assert.match(yield* refused(open), /its ray\.json is neither a file nor a folder/)
      fs.rmSync(path.join(open, "ray.json"))
      for (const mode of [0o777, 0o770, 0o702]) {
        fs.chmodSync(open, mode)
        assert.match(yield* refused(open), /other users may write in it .* close it with chmod 700/)
        assert.strictEqual(fs.statSync(open).mode & 0o777, mode)
      }
      fs.chmodSync(open, 0o700)
      // The name is of no matter: what is written next may have it.
      const precious = path.join(parent, "precious")
      fs.writeFileSync(precious, "precious")
      for (const name of [`ray.lock.${process.pid}`, "anything", "users/1"]) {
        fs.mkdirSync(path.join(open, "users"), { recursive: true })
        fs.symlinkSync(precious, path.join(open, name))
        assert.include(yield* refused(open), `its ${name} is neither a file nor a folder`)
        fs.rmSync(path.join(open, name))
      }
      // Another name of the same file is not seen, and not written to.
      for (const name of [`ray.lock.${process.pid}`, "ray.log"]) {
        fs.rmSync(path.join(open, name), { force: true })
        fs.linkSync(precious, path.join(open, name))
      }
      yield* Effect.flip(LocalRay.make({ ...options, stateFolder: open }))
      assert.strictEqual(fs.readFileSync(precious, "utf8"), "precious")
      if (process.getuid!() !== 0) return
      for (const name of ["users", "ray.json"]) {
        fs.writeFileSync(path.join(open, "ray.json"), "")
        fs.chownSync(path.join(open, name), nobody.uid, nobody.gid)
        assert.include(yield* refused(open), `its ${name} belongs to another user (65534)`)
        fs.chownSync(path.join(open, name), 0, 0)
      }
      const another = path.join(parent, "another")
      fs.mkdirSync(another)
      fs.chownSync(another, nobody.uid, nobody.gid)
      assert.match(yield* refused(another), /it belongs to another user \(65534\)/)
    }))

  it.effect("says which process it waits for, can be interrupted meanwhile, and gives up", () =>
    Effect.gen(function*() {
      const stateFolder = yield* tempFolder
      const lock = path.join(stateFolder, "ray.lock")
      fs.writeFileSync(lock, JSON.stringify(processId(process.pid)))
      const told: Array<unknown> = []
      const made = LocalRay.make({ stateFolder, ray: yield* brokenRay }).pipe(
        Effect.scoped,
        Effect.provide(Logger.layer([Logger.make(({ message }) => told.push(message))]))
      )
      const waits = yield* Effect.forkChild(made)
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(told, [[
        `waiting for the local Ray: process ${process.pid} is starting or stopping it, says ${lock}`
      ]])
      yield* Fiber.interrupt(waits)
      assert.deepStrictEqual(fs.readdirSync(path.join(stateFolder, "users")), [])

      const fails = yield* Effect.forkChild(Effect.flip(made))
      yield* TestClock.adjust(Duration.sum(LocalRay.lockTimeout, Duration.seconds(1)))
      const { message } = yield* Fiber.join(fails)
      assert.include(message, `process ${process.pid} is starting or stopping it, says ${lock}. End that process`)
      assert.isTrue(fs.existsSync(lock))
    }))

  it.live("runs no Ray that another user may have put above the project", () =>
    Effect.gen(function*() {
      const parent = yield* tempFolder
      const bin = path.join(parent, ".venv", "bin")
      fs.mkdirSync(bin, { recursive: true })
      fs.mkdirSync(path.join(parent, "project"))
      fs.writeFileSync(path.join(bin, "ray"), "#!/bin/sh\necho planted\nexit 3\n", { mode: 0o755 })
      const { PATH: before, EFFECT_RAY_PYTHON: python } = process.env
      const from = process.cwd()
      yield* Effect.addFinalizer(() =>
        Effect.sync(() => {
          process.chdir(from)
          Object.assign(process.env, { PATH: before }, python === undefined ? {} : { EFFECT_RAY_PYTHON: python })
        })
      )
      delete process.env["EFFECT_RAY_PYTHON"]
      process.env["PATH"] = "/usr/bin:/bin"
      process.chdir(path.join(parent, "project"))
      const tried = Effect.map(Effect.flip(LocalRay.make({})), (error) => error.message)
      assert.include(yield* tried, "planted")
      fs.chmodSync(path.dirname(bin), 0o777)
      assert.match(yield* tried, /\.venv has one, but another user may have put it there/)
      if (process.getuid!() !== 0) return
      fs.chmodSync(path.dirname(bin), 0o755)
      fs.chownSync(path.dirname(bin), nobody.uid, nobody.gid)
      assert.match(yield* tried, /\.venv has one, but another user may have put it there/)
    }))

  it.live("says what is missing when there is no Ray", () =>
    Effect.gen(function*() {
      const stateFolder = yield* tempFolder
      const before = process.env["EFFECT_RAY_PYTHON"]
      process.env["EFFECT_RAY_PYTHON"] = "/nowhere/python"
      yield* Effect.addFinalizer(() =>
        Effect.sync(() => {
          if (before === undefined) delete process.env["EFFECT_RAY_PYTHON"]
          else process.env["EFFECT_RAY_PYTHON"] = before
        })
      )
      const error = yield* Effect.flip(LocalRay.make({ stateFolder }))
      assert.include(error.message, "EFFECT_RAY_PYTHON")
      assert.include(error.message, "pip install")
    }))

  it.live("says why a head ended", () =>
    Effect.gen(function*() {
      const stateFolder = yield* tempFolder
      const error = yield* Effect.flip(LocalRay.make({ stateFolder, ray: yield* brokenRay }))
      assert.include(error.message, "no such luck")
      assert.isFalse(fs.existsSync(path.join(stateFolder, "ray.json")))
    }))
})
