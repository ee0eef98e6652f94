/**
 * How the bench drives a queue system's worker over the process channel.
 *
 * The worker has its own process, so the two share no heap, compiler or event loop.
 */

/** A command from the bench to a worker's process. */
export type Command =
  /** Start a worker on what is queued, report when everything has ended and the queue is empty, and stop the worker. */
  | { readonly _tag: "Drain"; readonly executions: number }
  /** Start a worker and leave it running. Report every handler that starts. */
  | { readonly _tag: "Serve" }
  | { readonly _tag: "Stop" }

/** A message from a worker's process. Times are in nanoseconds of the machine's monotonic clock. */
export type Message =
  | { readonly _tag: "Ready" }
  | { readonly _tag: "Done"; readonly millis: number }
  | { readonly _tag: "Handled"; readonly at: string }
  | { readonly _tag: "Broken"; readonly detail: string }

/** Starts and stops the worker of one queue system in its process. */
export interface WorkerControl {
  /**
   * Starts a worker, tuned for throughput or for latency where these differ. `handled` is called at the start of every
   * handler.
   */
  readonly start: (goal: "throughput" | "latency", handled: () => void) => Promise<void>
  readonly stop: () => Promise<void>
  /** Whether nothing is queued or running: every end is recorded. */
  readonly isEmpty: () => Promise<boolean>
}

const say = (message: Message): void => {
  process.send?.(message)
}

/** Runs a worker in this process until the bench closes the channel. */
export const serve = async (make: (databaseUrl: string) => Promise<WorkerControl>): Promise<void> => {
  process.on("disconnect", () => process.exit(0))
  const broken = (error: unknown) =>
    say({ _tag: "Broken", detail: error instanceof Error ? error.stack ?? error.message : String(error) })
  try {
    const worker = await make(process.argv[2]!)
    process.on("message", (command: Command) => {
      obey(worker, command).then((millis) => say({ _tag: "Done", millis }), broken)
    })
    say({ _tag: "Ready" })
  } catch (error) {
    broken(error)
  }
}

const obey = async (worker: WorkerControl, command: Command): Promise<number> => {
  const begin = performance.now()
  switch (command._tag) {
    case "Drain":
      return drain(worker, command.executions)
    case "Serve":
      await worker.start("latency", () => say({ _tag: "Handled", at: String(process.hrtime.bigint()) }))
      return performance.now() - begin
    case "Stop":
      await worker.stop()
      return performance.now() - begin
  }
}

/** The time from the first handler's start, so that no worker pays for its setup, until the last end is recorded. */
const drain = async (worker: WorkerControl, executions: number): Promise<number> => {
  let begin = 0
  let left = executions
  await new Promise<void>((resolve, reject) => {
    worker.start("throughput", () => {
      if (left === executions) begin = performance.now()
      if (--left === 0) resolve()
    }).catch(reject)
  })
  while (!(await worker.isEmpty()));
  const millis = performance.now() - begin
  await worker.stop()
  return millis
}
