import { file, needPrimary, pinned, takeWaiters } from "./shared.ts"

/** What callers do with one execution: find it, wait for it, cancel it. */
export const look = (s: string): ReadonlyArray<string> => [
  // One statement over both tables: an execution that moves from one to the other is in exactly one of them. What an answer
  // cannot carry with the others is told as left out, to be asked for alone.
  `
  CREATE FUNCTION ${s}.find(wanted uuid[], max_bytes bigint) RETURNS TABLE (
    id uuid, task text, queue text, state text, priority smallint, payload text, format integer, attempts integer,
    losses integer, fence bigint, tags jsonb, enqueued_at timestamptz, run_at timestamptz, ended_at timestamptz,
    held text, result text, left_out boolean
  )
  LANGUAGE plpgsql STABLE
  ${pinned}
  AS $$
  #variable_conflict use_column
  BEGIN
${needPrimary}
    RETURN QUERY
    SELECT f.id, f.task, f.queue, f.state, f.priority, CASE WHEN f.before < max_bytes THEN f.payload END, f.format,
      f.attempts, f.losses, f.fence, f.tags, f.enqueued_at, f.run_at, f.ended_at, f.held,
      CASE WHEN f.before < max_bytes THEN f.result END, f.before >= max_bytes
    FROM (
      SELECT u.*, coalesce(sum(u.bytes) OVER (ORDER BY u.id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
      FROM (
        SELECT e.id, e.task::text, e.queue::text, e.state, e.priority::smallint, e.payload::text, e.format::integer,
          e.attempts::integer, e.losses::integer, e.fence::bigint, e.tags::jsonb, e.enqueued_at::timestamptz,
          e.run_at::timestamptz, NULL::timestamptz AS ended_at,
          CASE WHEN e.state = 'queued' THEN (SELECT o.reason FROM ${s}.holds o WHERE o.lane = e.lane LIMIT 1) END AS held,
          NULL::text AS result, octet_length(e.payload) AS bytes
        FROM ${s}.executions e
        WHERE e.id = ANY (wanted)
        UNION ALL
        SELECT h.id, h.task, h.queue, h.state, h.priority, h.payload, h.format, h.attempts, h.losses, h.fence::bigint,
          h.tags, h.enqueued_at::timestamptz, h.run_at::timestamptz, h.ended_at::timestamptz, NULL::text, h.result::text,
          octet_length(h.payload) + octet_length(h.result)
        FROM ${s}.history h
        WHERE h.id = ANY (wanted)
      ) u
    ) f;
  END
  $$
  `,

  // The attempts of an execution that have ended: the earlier ones, and the last, which history keeps in its own row. Beyond
  // what an answer carries their results are left out.
  `
  CREATE FUNCTION ${s}.attempts_of(wanted uuid, max_rows integer, max_bytes bigint) RETURNS TABLE (
    fence bigint, attempt integer, outcome text, claimed_at timestamptz, ended_at timestamptz, result text,
    runner_ref text, confirmed boolean
  )
  LANGUAGE plpgsql STABLE
  ${pinned}
  AS $$
  #variable_conflict use_column
  BEGIN
${needPrimary}
    RETURN QUERY
    SELECT f.fence, f.attempt, f.outcome, f.claimed_at, f.ended_at, CASE WHEN f.before < max_bytes THEN f.result END,
      f.runner_ref, f.confirmed
    FROM (
      SELECT u.*, coalesce(
        sum(octet_length(u.result)) OVER (ORDER BY u.fence ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
      FROM (
        SELECT a.fence::bigint, a.attempt, a.outcome, a.claimed_at::timestamptz, a.ended_at::timestamptz, a.result::text,
          a.runner_ref::text, a.confirmed
        FROM ${s}.attempts a
        WHERE a.execution_id = wanted
        UNION ALL
        SELECT h.fence::bigint, h.attempt, h.outcome, h.claimed_at::timestamptz, h.ended_at::timestamptz,
          CASE WHEN h.outcome <> 'cancelled' THEN h.result::text END, h.runner_ref, h.confirmed
        FROM ${s}.history h
        WHERE h.id = wanted AND h.outcome IS NOT NULL
        ORDER BY fence
        LIMIT max_rows
      ) u
    ) f
    ORDER BY f.fence;
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
${needPrimary}
    RETURN QUERY
    SELECT w.id
    FROM unnest(wanted) AS w(id)
    WHERE NOT EXISTS (SELECT 1 FROM ${s}.executions e WHERE e.id = w.id);
  END
  $$
  `,

  // Lanes of those of the ids that have been due for some time and that no live supervisor serves: nobody will run them as
  // things are.
  `
  CREATE FUNCTION ${s}.unserved(wanted uuid[], since_millis double precision) RETURNS TABLE (queue text, task text)
  LANGUAGE plpgsql STABLE
  ${pinned}
  AS $$
  #variable_conflict use_column
  BEGIN
    RETURN QUERY
    SELECT DISTINCT e.queue::text, e.task::text
    FROM ${s}.executions e
    WHERE e.id = ANY (wanted) AND e.state = 'queued'
      AND e.run_at <= ${s}.now() - since_millis * interval '1 millisecond'
      AND NOT EXISTS (
        SELECT 1 FROM ${s}.supervisors v
        WHERE e.lane = ANY (v.lanes) AND ${s}.lease_end(v.expires_at, v.lease_millis) > ${s}.now()
      );
  END
  $$
  `,

  // Those of the ids that somebody wants cancelled: a message says so, and anybody can send one.
  `
  CREATE FUNCTION ${s}.cancelling(wanted uuid[]) RETURNS SETOF uuid
  LANGUAGE plpgsql STABLE
  ${pinned}
  AS $$
  BEGIN
    RETURN QUERY SELECT e.id FROM ${s}.executions e WHERE e.id = ANY (wanted) AND e.state = 'cancelling';
  END
  $$
  `,

  // A message must not wait for the disk: what it tells of is there already. It is no write, so a server that takes none
  // would take it, and nobody who listens where writes are taken would hear.
  `
  CREATE FUNCTION ${s}.tell(channels text[], messages text[]) RETURNS void
  LANGUAGE plpgsql
  ${pinned}
  AS $$
  BEGIN
    IF current_setting('transaction_read_only') = 'on' THEN
      RAISE EXCEPTION 'this server takes no writes' USING ERRCODE = 'read_only_sql_transaction';
    END IF;
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM pg_notify(n.channel, n.message) FROM unnest(channels, messages) AS n(channel, message);
  END
  $$
  `,

  // Lanes for people to see. The rows that are there are left alone.
  `
  CREATE FUNCTION ${s}.note_lanes(ids bigint[], queues text[], tasks text[]) RETURNS void
  LANGUAGE plpgsql
  ${pinned}
  AS $$
  BEGIN
    INSERT INTO ${s}.lanes (id, queue, task, created_at)
    SELECT i.id, i.queue, i.task, ${s}.clock() FROM unnest(ids, queues, tasks) AS i(id, queue, task)
    ON CONFLICT DO NOTHING;
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
${takeWaiters(s, "over")}
    answer := 'Cancelled';
  END
  $$
  `
]
