// Compiled, never run: what the types promise to users, and the mistakes they must refuse.
import { Context, Effect, Layer, Schedule, Schema, SchemaGetter } from "effect"
import { type Broker, type BrokerError, type Execution, type Handler, Task, Worker } from "../src/index.ts"

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false
const same = <A, B>(_: Equal<A, B>): void => undefined

class OutOfInk extends Schema.TaggedError<OutOfInk>()("OutOfInk", { page: Schema.Int }) {}

class Render extends Task.make("Render", {
  payload: { url: Schema.String, pages: Schema.Int },
  success: Schema.Struct({ bytes: Schema.Int }),
  error: OutOfInk,
  retry: {
    schedule: Schedule.exponential("1 second"),
    attempts: 5,
    // The error's type is inferred, and has TaskError beside the declared one.
    while: (error) => error._tag === "TaskError" || error.page > 0
  },
  idempotencyKey: ({ url }) => url.toUpperCase(),
  timeout: "5 minutes"
}) {}

class Ping extends Task.make("Ping") {}

class Anything extends Task.make("Anything", { payload: Schema.Any }) {}

class Unknown extends Task.make("Unknown", { payload: Schema.Unknown }) {}

class Train extends Task.python("Train", {
  module: "ml.train",
  function: "train",
  payload: { rows: Schema.Int },
  success: Schema.Struct({ loss: Schema.Number })
}) {}

class Database
  extends Context.Service<Database, { readonly find: (id: string) => Effect.Effect<number> }>()("Database")
{}

/** Needs the database to be decoded. */
const Found = Schema.String.pipe(
  Schema.decodeTo(Schema.Number, {
    decode: SchemaGetter.transformEffect((id: string) => Effect.flatMap(Database, (database) => database.find(id))),
    encode: SchemaGetter.transform(String)
  })
)

// Enqueue: payload, success, error and requirements are inferred.
const enqueued = Task.enqueue(Render, { url: "a", pages: 1 }, { delay: "10 seconds", priority: 9 })
same<
  typeof enqueued,
  Effect.Effect<
    Execution.Execution<{ readonly bytes: number }, OutOfInk>,
    BrokerError.BrokerError,
    Broker.Broker
  >
>(true)

const awaited = Effect.flatMap(enqueued, (execution) => execution.await)
same<Effect.Success<typeof awaited>, { readonly bytes: number }>(true)
same<Effect.Error<typeof awaited>, OutOfInk | Task.TaskError | BrokerError.BrokerError>(true)

Task.enqueue(Ping)
Task.enqueue(Ping, undefined, { priority: 1 })
Task.enqueueAll(Render, [{ url: "a", pages: 1 }])
Task.enqueue(Train, { rows: 3 })
Task.enqueue(Anything, { a: 1 }, { priority: 1 })
Task.enqueue(Unknown, 1)
const execution = Task.execution(Render, "some-id")
same<
  typeof execution,
  Effect.Effect<Execution.Execution<{ readonly bytes: number }, OutOfInk>, BrokerError.BrokerError, Broker.Broker>
>(true)

// @ts-expect-error a payload of the wrong type
Task.enqueue(Render, { url: 1, pages: 1 })
// @ts-expect-error a field is missing
Task.enqueue(Render, { url: "a" })
// @ts-expect-error a field too many
Task.enqueue(Render, { url: "a", pages: 1, colour: "red" })
// @ts-expect-error no payload at all
Task.enqueue(Render)
// @ts-expect-error a payload for a task that takes none
Task.enqueue(Ping, { a: 1 })
// @ts-expect-error an option that does not exist
Task.enqueue(Render, { url: "a", pages: 1 }, { retries: 3 })
// @ts-expect-error one wrong payload among several
Task.enqueueAll(Render, [{ url: "a", pages: 1 }, { url: "b", pages: "2" }])
// @ts-expect-error not a task
Task.enqueue("Render", { url: "a", pages: 1 })

// Handlers.
const RenderLive = Render.toLayer(
  Effect.fn("Render")(function*({ pages, url }) {
    if (pages > 100) return yield* new OutOfInk({ page: pages })
    return { bytes: url.length }
  })
)
same<typeof RenderLive, Layer.Layer<Handler.Handler<"Render">>>(true)

// What the handler needs becomes what the layer needs.
const NeedsDatabase = Ping.toLayer(() => Effect.flatMap(Database, (database) => Effect.asVoid(database.find("x"))))
same<typeof NeedsDatabase, Layer.Layer<Handler.Handler<"Ping">, never, Database>>(true)

// @ts-expect-error the wrong success
Render.toLayer(() => Effect.succeed({ bytes: "many" }))
// @ts-expect-error an undeclared error
Render.toLayer(() => Effect.fail(new Error("no")))
// @ts-expect-error the handler reads a field the payload has not
Render.toLayer(({ colour }) => Effect.succeed({ bytes: colour }))
// @ts-expect-error a declared error with the wrong field
Render.toLayer(() => Effect.fail(new OutOfInk({ page: "one" })))
// @ts-expect-error a Python task has no Effect handler
Train.toLayer(() => Effect.succeed({ loss: 1 }))

// Definitions.
// @ts-expect-error the retry predicate reads a field no error has
Task.make("Bad", { error: OutOfInk, retry: { while: (error) => error.colour === "red" } })
// @ts-expect-error the key reads a field the payload has not
Task.make("Bad", { payload: { url: Schema.String }, idempotencyKey: ({ colour }) => colour })
// @ts-expect-error a key is a string
Task.make("Bad", { payload: { n: Schema.Int }, idempotencyKey: ({ n }) => n })
// @ts-expect-error not a duration
Task.make("Bad", { timeout: "five minutes" })
// @ts-expect-error a Python task names its function
Task.python("Bad", { module: "ml" })
// The worker checks by these what a Python function is given and what it answers, and has no services.
// @ts-expect-error a success that needs a service to be decoded
Task.python("Bad", { module: "ml", function: "f", success: Found })
// @ts-expect-error a payload that needs one
Task.python("Bad", { module: "ml", function: "f", payload: { id: Found } })
Task.make("Good", { payload: { id: Found }, success: Found })

// Workers.
const worker = Worker.make({ tasks: [Render, Train], handlers: RenderLive, python: "./python" })
same<typeof worker, Worker.Worker<typeof Render | typeof Train>>(true)
Worker.make({ tasks: [Train], python: "./python" })
Worker.make({ tasks: [Train], python: null })
Worker.make({ tasks: [Ping], handlers: Ping.toLayer(() => Effect.void) })
Worker.make({ tasks: [Render, Ping], handlers: Layer.merge(RenderLive, Ping.toLayer(() => Effect.void)) })

// @ts-expect-error a handler is missing
Worker.make({ tasks: [Render, Ping], handlers: RenderLive })
// @ts-expect-error the handlers are missing
Worker.make({ tasks: [Render] })
// @ts-expect-error nobody says where the Python module is
Worker.make({ tasks: [Train] })
// @ts-expect-error nor here
Worker.make({ tasks: [Render, Train], handlers: RenderLive })
// @ts-expect-error a service of a handler is not provided
Worker.make({ tasks: [Ping], handlers: NeedsDatabase })
// @ts-expect-error not tasks
Worker.make({ tasks: ["Render"], handlers: RenderLive })

// Awaiting asks for nothing that enqueueing did not.
same<Effect.Services<typeof awaited>, Broker.Broker>(true)
