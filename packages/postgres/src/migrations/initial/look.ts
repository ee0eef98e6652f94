import { file, pinned } from "./shared.ts"

/** What callers do with one execution: find it, wait for it, cancel it. */
export const look = (s: string): ReadonlyArray<string> => [
  // Who awaits what has just ended. A statement of its own, after the one that ended it: that one waited for the names.
  `
  CREATE FUNCTION ${s}.take_waiters(over uuid[], OUT woken_processes text[], OUT woken_ids uuid[])
  LANGUAGE plpgsql
  ${pinned}
  AS $$
  BEGIN
    WITH gone AS (
      DELETE FROM ${s}.waiters w WHERE w.execution_id = ANY (over) RETURNING w.process, w.execution_id
    )
    SELECT array_agg(g.process), array_agg(g.execution_id) INTO woken_processes, woken_ids FROM gone g;
  END
  $$
  `,

  // One statement over both tables: an execution that moves from one to the other is in exactly one of them.
  `
  CREATE FUNCTION ${s}.find(wanted uuid[]) RETURNS TABLE (
    id uuid, task text, queue text, state text, priority smallint, payload text, format integer, attempts integer,
    losses integer, fence bigint, tags jsonb, enqueued_at timestamptz, run_at timestamptz, ended_at timestamptz,
    held text, result text
  )
  LANGUAGE plpgsql STABLE
  ${pinned}
  AS $$
  #variable_conflict use_column
  BEGIN
    RETURN QUERY
    SELECT e.id, e.task, e.queue, e.state, e.priority, e.payload, e.format, e.attempts, e.losses, e.fence, e.tags,
      e.enqueued_at, e.run_at, NULL::timestamptz,
      CASE WHEN e.state = 'queued' THEN (SELECT o.reason FROM ${s}.holds o WHERE o.lane = e.lane LIMIT 1) END, NULL::text
    FROM ${s}.executions e
    WHERE e.id = ANY (wanted)
    UNION ALL
    SELECT h.id, h.task, h.queue, h.state, h.priority, h.payload, h.format, h.attempts, h.losses, h.fence, h.tags,
      h.enqueued_at, h.run_at, h.ended_at, NULL::text, h.result
    FROM ${s}.history h
    WHERE h.id = ANY (wanted);
  END
  $$
  `,

  // Those of the ids that are over: what a process asks now and then about all it awaits.
  `
  CREATE FUNCTION ${s}.find_ended(wanted uuid[]) RETURNS SETOF uuid
  LANGUAGE plpgsql STABLE
  ${pinned}
  AS $$
  BEGIN
    RETURN QUERY
    SELECT w.id
    FROM unnest(wanted) AS w(id)
    WHERE NOT EXISTS (SELECT 1 FROM ${s}.executions e WHERE e.id = w.id);
  END
  $$
  `,

  // Leaves the process's name with executions that are not over, and answers which those are. The lock lets claims
  // pass and makes an end wait, so it finds the name, or has been filed before the caller looks into history.
  `
  CREATE FUNCTION ${s}.watch(process text, wanted uuid[]) RETURNS SETOF uuid
  LANGUAGE plpgsql
  ${pinned}
  AS $$
  DECLARE
    open uuid[];
  BEGIN
    SELECT array_agg(l.id)
    INTO open
    FROM (SELECT e.id FROM ${s}.executions e WHERE e.id = ANY (wanted) ORDER BY e.id FOR KEY SHARE) l;
    INSERT INTO ${s}.waiters (execution_id, process) SELECT o.id, watch.process FROM unnest(open) AS o(id)
    ON CONFLICT DO NOTHING;
    RETURN QUERY SELECT unnest(open);
  END
  $$
  `,

  `
  CREATE FUNCTION ${s}.cancel(
    wanted uuid, cancelled_result text,
    OUT answer text, OUT woken_processes text[], OUT woken_ids uuid[]
  )
  LANGUAGE plpgsql
  ${pinned}
  AS $$
  DECLARE
    ended timestamptz := ${s}.clock();
    found_state text;
    over uuid[];
  BEGIN
    SELECT e.state INTO found_state FROM ${s}.executions e WHERE e.id = wanted FOR UPDATE;
    IF found_state IS NULL THEN
      answer := 'TooLate';
      RETURN;
    END IF;
    IF found_state IN ('running', 'cancelling') THEN
      UPDATE ${s}.executions e SET state = 'cancelling' WHERE e.id = wanted AND e.state = 'running';
      answer := 'Requested';
      RETURN;
    END IF;
    WITH gone AS (
      DELETE FROM ${s}.executions e WHERE e.id = wanted RETURNING e.*
    ), filed AS (${
    file(s, {
      from: "gone e",
      state: "'cancelled'",
      result: "cancelled_result",
      outcome: "NULL",
      attempt: "NULL",
      attempts: "e.attempts",
      losses: "e.losses",
      settled: "false",
      confirmed: "true",
      supervisor: "NULL",
      runnerRef: "NULL"
    })
  }
    )
    SELECT array_agg(g.id) INTO over FROM gone g;
    SELECT w.woken_processes, w.woken_ids INTO woken_processes, woken_ids FROM ${s}.take_waiters(over) w;
    answer := 'Cancelled';
  END
  $$
  `
]
