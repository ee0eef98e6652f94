import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import * as Frame from "../src/Frame.ts"

const integer = (maximum: number) => Schema.Int.check(Schema.isBetween({ minimum: 0, maximum }))

const Sent = Schema.Struct({
  type: integer(255),
  flags: integer(0xffff),
  route: integer(0xffff_ffff),
  supervisor: integer(0xffff),
  call: integer(0xffff_ffff_ffff),
  fence: integer(Number.MAX_SAFE_INTEGER),
  body: Schema.String
})

const execution = "0198c5a4-1b2c-7d3e-8f40-5a6b7c8d9e0f"

const read = (frame: Frame.Frame): typeof Sent.Type => ({
  type: frame.type,
  flags: frame.flags,
  route: frame.route,
  supervisor: frame.supervisor,
  call: frame.call,
  fence: frame.fence,
  body: frame.text
})

/** What a writer hands on, in one piece. */
const written = (write: (writer: Frame.Writer) => void): Buffer => {
  const parts: Array<Buffer> = []
  const writer = new Frame.Writer((flushed) => parts.push(...flushed))
  write(writer)
  writer.flush()
  return Buffer.concat(parts)
}

const decode = (bytes: Buffer, cut: (at: number) => number = () => bytes.length): Array<Frame.Frame> => {
  const frames: Array<Frame.Frame> = []
  const decoder = new Frame.Decoder((frame) => frames.push(frame))
  for (let at = 0; at < bytes.length;) {
    const end = Math.min(bytes.length, at + Math.max(1, cut(at)))
    decoder.push(Buffer.from(bytes.subarray(at, end)))
    at = end
  }
  return frames
}

describe("Frame", () => {
  it.prop(
    "what was written is read again, in whatever pieces it arrives",
    [Schema.Array(Sent), Schema.NonEmptyArray(integer(200))],
    ([sent, cuts]) => {
      const bytes = written((writer) => {
        for (const { body, ...header } of sent) writer.frame({ ...header, execution }, body)
      })
      let piece = 0
      const frames = decode(bytes, () => cuts[piece++ % cuts.length]!)
      assert.deepStrictEqual(frames.map(read), sent.map((one) => ({ ...one, body: one.body.toWellFormed() })))
      assert.isTrue(frames.every((frame) => frame.execution === execution))
    }
  )

  it("has the layout of the protocol", () => {
    const frame = Frame.encode({
      type: Frame.Type.RESULT,
      flags: Frame.kindFlags(Frame.Kind.died),
      route: 7,
      supervisor: 0x0102,
      call: 0x030405060708,
      execution,
      fence: 0x0a_0000_000b
    }, "{}")
    assert.strictEqual(
      frame.toString("hex"),
      [
        "00000002",
        "01",
        "0c",
        "0200",
        "00000007",
        "0102030405060708",
        execution.replaceAll("-", ""),
        "0000000a0000000b",
        "7b7d"
      ]
        .join("")
    )
  })

  it("sends long bodies in chunks and puts them together again, other frames between", () => {
    const long = "é".repeat(400_000)
    const header = { type: Frame.Type.RUN, flags: 0, route: 1, supervisor: 1, call: 1, execution, fence: 1 }
    const first = decode(written((writer) => writer.frame(header, long)))
    const second = decode(written((writer) => writer.frame({ ...header, call: 2 }, long)))
    assert.strictEqual(first.length, 4)
    assert.isTrue(first.every((frame) => frame.bodyBytes <= Frame.maxBodyBytes))
    const assembler = new Frame.Assembler(1024 * 1024)
    const whole = first.flatMap((frame, index) => [frame, second[index]!]).map((frame) => assembler.add(frame))
    assert.deepStrictEqual(whole.map((body) => body?.toString() === long), [
      false,
      false,
      false,
      false,
      false,
      false,
      true,
      true
    ])
  })

  it("answers with the call, execution and fence of the frame it answers", () => {
    const header = { type: Frame.Type.RUN, flags: 0, route: 1, supervisor: 9, call: 8, execution, fence: 7 }
    const [run] = decode(written((writer) => writer.frame(header, "{}")))
    const [reply] = decode(
      written((writer) => writer.frame({ type: Frame.Type.RESULT, flags: 256, route: 3, to: run!.bytes }, "1"))
    )
    assert.deepStrictEqual(read(reply!), { ...read(run!), type: Frame.Type.RESULT, flags: 256, route: 3, body: "1" })
    assert.strictEqual(reply!.execution, execution)
  })

  it("refuses what is over its limits, and other protocols", () => {
    const header = { type: Frame.Type.RUN, flags: 0, route: 1, supervisor: 1, call: 1, execution, fence: 1 }
    const bytes = written((writer) => writer.frame(header, "{}"))
    const long = Buffer.from(bytes)
    long.writeUInt32BE(Frame.maxBodyBytes + 1)
    assert.throws(() => decode(long), Frame.FrameError)
    const other = Buffer.from(bytes)
    other[4] = 2
    assert.throws(() => decode(other), Frame.FrameError)
    const chunk = decode(Frame.encode({ ...header, flags: Frame.more }, "0123456789"))[0]!
    const assembler = new Frame.Assembler(15)
    assembler.add(chunk)
    assert.throws(() => assembler.add(chunk), Frame.FrameError)
  })

  it("hands all frames of one turn of the event loop on at once", async () => {
    let flushes = 0
    const writer = new Frame.Writer(() => flushes++)
    const header = { type: Frame.Type.RUN, flags: 0, route: 1, supervisor: 1, call: 1, execution, fence: 1 }
    for (let call = 0; call < 1_000; call++) writer.frame({ ...header, call }, "{}")
    await new Promise((resolve) => setImmediate(resolve))
    assert.strictEqual(flushes, 1)
  })
})
