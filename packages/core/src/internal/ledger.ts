/** The rows of `MemoryBroker`, and the lines in which they wait. */
import * as Deferred from "effect/Deferred"
import * as DateTime from "effect/DateTime"
import * as Option from "effect/Option"
import type { AttemptRecord, ExecutionId, Fence, Lane, NewExecution, Record, State, SupervisorId } from "../Broker.ts"
import { type Heap, makeHeap } from "./heap.ts"
import type { JournalEntry } from "./run/journal.ts"

/** One execution, changed in place. Times are in milliseconds of the broker's clock. */
export interface Row {
  readonly execution: NewExecution
  /** The order of arrival, which decides between rows that are due at the same time. */
  readonly arrival: number
  readonly enqueuedAt: number
  readonly startBy: number | undefined
  state: State
  attempts: number
  losses: number
  fence: Fence
  runAt: number
  owner: SupervisorId | undefined
  claimedAt: number
  finishedAt: number | undefined
  result: string | undefined
  readonly history: Array<EndedAttempt>
  readonly ended: Deferred.Deferred<Record>
  /** What only a workflow run has. */
  readonly run: RunPart | undefined
  /** Runs that get a message when it ends. */
  readonly tells: Set<ExecutionId>
}

export interface RunPart {
  readonly name: string
  payload: string
  journal: Array<JournalEntry>
  link: number
  /** When its link began. */
  beganAt: number
  /** When it is interrupted; Infinity if it has no limit. */
  readonly expiresAt: number
  /** Why it waits for a person. */
  held: string | undefined
  /** The supervisor that may still have it in memory. */
  home: SupervisorId | undefined
}

/** An attempt that has ended. `settledBy` is undefined if it was taken from its owner. */
export interface EndedAttempt {
  readonly record: AttemptRecord
  readonly settledBy: SupervisorId | undefined
}

export const makeRow = (execution: NewExecution, times: {
  readonly arrival: number
  readonly now: number
  readonly runAt: number
  readonly startBy: number | undefined
}, run?: RunPart): Row => ({
  execution,
  arrival: times.arrival,
  enqueuedAt: times.now,
  startBy: times.startBy,
  state: "queued",
  attempts: 0,
  losses: 0,
  fence: 0,
  runAt: times.runAt,
  owner: undefined,
  claimedAt: 0,
  finishedAt: undefined,
  result: undefined,
  history: [],
  ended: Deferred.makeUnsafe(),
  run,
  tells: new Set()
})

export const isHeld = (row: Row): boolean => row.state === "running" || row.state === "cancelling"

const ends: ReadonlySet<State> = new Set(["succeeded", "failed", "cancelled", "expired", "lost", "terminated"])

export const isOver = (row: Row): boolean => ends.has(row.state)

/** Whether its `startBy` has passed before any attempt began. */
export const isExpired = (row: Row, now: number): boolean =>
  row.state === "queued" && row.startBy !== undefined && row.startBy <= now && row.attempts === 0 && row.losses === 0

export const toRecord = (row: Row, held: Option.Option<string> = Option.none()): Record => ({
  id: row.execution.id,
  task: row.execution.task,
  queue: row.execution.queue,
  state: row.state,
  priority: row.execution.priority,
  payload: row.execution.payload,
  format: row.execution.format,
  attempts: row.attempts,
  losses: row.losses,
  fence: row.fence,
  tags: row.execution.tags,
  enqueuedAt: DateTime.makeUnsafe(row.enqueuedAt),
  runAt: DateTime.makeUnsafe(row.runAt),
  finishedAt: Option.map(Option.fromUndefinedOr(row.finishedAt), DateTime.makeUnsafe),
  held: Option.orElse(Option.fromUndefinedOr(row.run?.held), () => held),
  result: Option.fromUndefinedOr(row.result)
})

/** A row's position in its line. It is out of date once the row has been claimed, cancelled or expired. */
interface Position {
  readonly row: Row
  readonly runAt: number
  readonly fence: Fence
}

/**
 * Queued rows, and runs that wait for a time, by lane and priority, each line ordered by when its rows are due, then by
 * arrival.
 */
export interface Lines {
  readonly push: (row: Row) => void
  /** The row of these lanes to hand out next, of those that may be taken. It stays in its line. */
  readonly first: (
    lanes: ReadonlyArray<Lane>,
    now: number,
    mayTake: (lane: Lane, priority: number) => boolean
  ) => Row | undefined
  /** When the next row of these lanes is due. */
  readonly nextDue: (lanes: ReadonlyArray<Lane>) => number | undefined
}

const priorities = [9, 8, 7, 6, 5, 4, 3, 2, 1, 0] as const

export const makeLines = (): Lines => {
  const lines = new Map<string, Heap<Position>>()
  // Names contain no NUL, so no two lanes share a line.
  const name = (lane: Lane, priority: number) => `${priority}\u0000${lane.queue}\u0000${lane.task}`

  const isCurrent = ({ fence, row, runAt }: Position): boolean =>
    row.fence === fence
    && (row.state === "queued" || (row.state === "waiting" && row.run?.held === undefined && row.runAt === runAt))

  const isBefore = (a: Position, b: Position) => a.runAt !== b.runAt ? a.runAt < b.runAt : a.row.arrival < b.row.arrival

  const head = (lane: Lane, priority: number): Position | undefined => {
    const line = lines.get(name(lane, priority))
    if (line === undefined) return undefined
    for (let position = line.peek(); position !== undefined; position = line.peek()) {
      if (isCurrent(position)) return position
      line.pop()
    }
    return undefined
  }

  const firstOf = (
    lanes: ReadonlyArray<Lane>,
    priority: number,
    mayTake: (lane: Lane, priority: number) => boolean = () => true
  ): Position | undefined => {
    let best: Position | undefined
    for (const lane of lanes) {
      const position = mayTake(lane, priority) ? head(lane, priority) : undefined
      if (position !== undefined && (best === undefined || isBefore(position, best))) best = position
    }
    return best
  }

  return {
    push: (row) => {
      const key = name(row.execution, row.execution.priority)
      const line = lines.get(key) ?? makeHeap(isBefore)
      lines.set(key, line)
      line.push({ row, runAt: row.runAt, fence: row.fence })
    },
    first: (lanes, now, mayTake) => {
      for (const priority of priorities) {
        const position = firstOf(lanes, priority, mayTake)
        if (position !== undefined && position.runAt <= now) return position.row
      }
      return undefined
    },
    nextDue: (lanes) => {
      let next: number | undefined
      for (const priority of priorities) {
        const position = firstOf(lanes, priority)
        if (position !== undefined && (next === undefined || position.runAt < next)) next = position.runAt
      }
      return next
    }
  }
}
