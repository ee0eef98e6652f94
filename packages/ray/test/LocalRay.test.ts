import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { spawn } from "node:child_process"
import * as fs from "node:fs"
import * as net from "node:net"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { addUser } from "../src/internal/headUsers.ts"
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
        return { head: tree(pid), logs, port: Number(new URL(address).port) }
      }))
      assert.deepStrictEqual(Array.from(head).filter(isAlive), [])
      assert.isFalse(yield* isOpen(port))
      assert.isFalse(fs.existsSync(path.resolve(logs, "../..")))
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
      const broken = path.join(stateFolder, "ray")
      fs.writeFileSync(broken, "#!/bin/sh\necho no such luck\nexit 3\n", { mode: 0o755 })
      const error = yield* Effect.flip(LocalRay.make({ stateFolder, ray: broken }))
      assert.include(error.message, "no such luck")
      assert.isFalse(fs.existsSync(path.join(stateFolder, "ray.json")))
    }))
})
