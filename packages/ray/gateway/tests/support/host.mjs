// A host for the gateway's tests: it speaks the protocol, and does what the payload of a call says.
import { spawn } from "node:child_process"
import { writeSync } from "node:fs"
import { createHmac, randomBytes } from "node:crypto"
import { connect } from "node:net"
import { createInterface } from "node:readline"

const HEADER = 44
const lines = createInterface({ input: process.stdin })
lines.on("close", () => process.exit(0))
lines.once("line", (line) => dial(JSON.parse(line)))

const pack = (type, body = Buffer.alloc(0), flags = 0, route = 0, ident = Buffer.alloc(32)) => {
  const header = Buffer.alloc(HEADER)
  header.writeUInt32BE(body.length, 0)
  header.writeUInt8(1, 4)
  header.writeUInt8(type, 5)
  header.writeUInt16BE(flags, 6)
  header.writeUInt32BE(route, 8)
  ident.copy(header, 12)
  return Buffer.concat([header, body])
}
const json = (value) => Buffer.from(JSON.stringify(value))

const dial = (orders) => {
  Object.assign(process.env, orders.env)
  if (process.env.TEST_FAIL) throw new Error("the bundle throws")
  const nonce = randomBytes(16).toString("hex")
  const prove = (label, other) =>
    createHmac("sha256", Buffer.from(orders.token, "hex")).update(`${label}|${nonce}|${other}`).digest("hex")
  const { concurrency } = orders.placement
  const socket = connect(orders.gateway.port, orders.gateway.host, () =>
    socket.write(pack(
      1,
      json({
        role: "host",
        id: orders.hostId,
        protocols: [1],
        nonce,
        maxBodyBytes: 1 << 20,
        pid: process.pid,
        node: orders.node,
        slots: concurrency
      })
    )))
  let number = 0
  let buffer = Buffer.alloc(0)
  const running = new Map()
  const answer = (call, kind, body) => {
    running.delete(call.toString("hex"))
    socket.write(pack(12, body, kind << 8, number, call))
  }
  const run = (call, payload) => {
    running.set(call.toString("hex"), call)
    if (payload.does === "exit") process.exit(payload.code)
    if (payload.does === "abort") process.abort()
    if (payload.does === "spin") {
      socket.write(pack(11, Buffer.alloc(0), 0, number, call))
      setTimeout(() => {
        for (;;);
      }, 20)
      return
    }
    if (payload.does === "hang") return socket.write(pack(11, Buffer.alloc(0), 0, number, call))
    if (payload.does === "say") {
      const line = `${"x".repeat(16_383)}${payload.end}`
      for (let n = 0; n < payload.megabytes * 64; n++) writeSync(1, line)
      return answer(call, 0, json(process.ppid))
    }
    if (payload.does === "start") return answer(call, 0, json(spawn("sleep", ["600"], { stdio: "ignore" }).pid))
    if (payload.does === "about") {
      return answer(
        call,
        0,
        json({ env: process.env, cwd: process.cwd(), parent: process.ppid, pid: process.pid, argv: process.execArgv })
      )
    }
    answer(call, 0, json(payload))
  }
  socket.on("data", (data) => {
    buffer = Buffer.concat([buffer, data])
    while (buffer.length >= HEADER && buffer.length >= HEADER + buffer.readUInt32BE(0)) {
      const end = HEADER + buffer.readUInt32BE(0)
      const type = buffer.readUInt8(5)
      const call = Buffer.from(buffer.subarray(12, HEADER))
      const body = buffer.subarray(HEADER, end)
      buffer = buffer.subarray(end)
      if (type === 2) {
        const challenge = JSON.parse(body)
        if (challenge.proof !== prove("gateway", challenge.nonce)) process.exit(3)
        socket.write(pack(3, json({ proof: prove("client", challenge.nonce) })))
      } else if (type === 4) number = JSON.parse(body).number
      else if (type === 10) run(call, JSON.parse(body.subarray(body.indexOf("\n") + 1)))
      else if (type === 14 && running.has(call.toString("hex"))) answer(call, 3, Buffer.alloc(0))
      else if (type === 18) socket.write(pack(19))
      else if (type === 25) process.exit(0)
    }
  })
  socket.on("close", () => process.exit(1))
}
