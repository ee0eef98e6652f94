import { clamped, file, needReadCommitted, pinned, takeWaiters, woken } from "./shared.ts"

/** What a claim makes of a row. */
const taking = `state = 'running', owner = me, fence = e.fence + 1, claimed_at = claimed,
      deadline_at = claimed + e.timeout_millis * interval '1 millisecond'`

/** What a claim tells of it, in the order of \`taken\`. */
const told = (claimed: string): string =>
  `e.id, e.fence::bigint, e.lane, e.band::smallint, e.task::text, e.queue::text, e.priority::smallint, e.payload::text, e.format::integer,
      e.attempts + 1, e.losses::integer, e.max_attempts::integer, e.timeout_millis::float8, e.traceparent::text, date_part('epoch', ${claimed}) * 1000,
      (date_part('epoch', ${claimed}) - date_part('epoch', e.run_at)) * 1000, date_part('epoch', e.run_at)`

const taken = `
    id uuid, fence bigint, lane bigint, band smallint, task text, queue text, priority smallint, payload text, format integer, attempt integer,
    losses integer, max_attempts integer, timeout_millis double precision, traceparent text,
    claimed_millis double precision, waited_millis double precision, run_seconds double precision`

/**
 * Claims by lane and band.
 *
 * Each pair is one look into `executions_to_claim`, so rows of other lanes, of tasks this build does not know and of
 * the future are never read. A first look counts what each pair has to give in the order of priority, then age; the
 * second locks exactly that many, passing over what another claim holds. `floor_seconds` and `floor_ids` say where to
 * begin: what lies before was taken by earlier claims and may still be in the index, dead, for as long as an old
 * snapshot is open.
 */
export const claim = (s: string): ReadonlyArray<string> => [
  `
  CREATE FUNCTION ${s}.claim(
    me uuid, lane_ids bigint[], bands smallint[], floor_seconds double precision[], floor_ids uuid[],
    lane_limits integer[], max_rows integer, suspect_losses integer, max_bytes bigint
  ) RETURNS TABLE (
    ord integer, ${taken}, at_most_once boolean, more boolean
  )
  LANGUAGE plpgsql
  ${pinned}
  AS $$
  #variable_conflict use_column
  DECLARE
    claimed timestamptz := ${s}.clock();
    waits text := current_setting('synchronous_commit');
  BEGIN
${needReadCommitted}
    PERFORM set_config('synchronous_commit', 'off', true);
    -- Held until this transaction ends: the reaper passes over a supervisor whose claim is under way.
    PERFORM 1
    FROM ${s}.supervisors v
    WHERE v.id = me AND ${s}.lease_end(v.expires_at, v.lease_millis) > claimed
    FOR KEY SHARE;
    IF NOT FOUND THEN
      RETURN;
    END IF;
    -- The first row, numbered 0, says that the supervisor lives, and what time it is.
    ord := 0;
    run_seconds := date_part('epoch', claimed);
    RETURN NEXT;
    RETURN QUERY
    WITH due AS MATERIALIZED (
      SELECT d.lane, d.band, d.floor_at, d.floor_id, count(*) AS n
      FROM (
        SELECT p.lane, p.band, p.floor_at, p.floor_id
        FROM (
          SELECT f.lane, f.band, f.floor_id, f.most, to_timestamp(f.seconds) AS floor_at
          FROM unnest(lane_ids, bands, floor_seconds, floor_ids, lane_limits) AS f(lane, band, seconds, floor_id, most)
        ) p
        CROSS JOIN LATERAL (
          SELECT e.run_at, e.id
          FROM ${s}.executions e
          WHERE e.state = 'queued' AND e.lane = p.lane AND e.band = p.band
            AND (e.run_at, e.id) >= (p.floor_at, p.floor_id) AND e.run_at <= ${s}.now()
            AND (e.start_by IS NULL OR e.attempts > 0 OR e.losses > 0 OR e.start_by > ${s}.now())
          ORDER BY e.run_at, e.id
          LIMIT p.most
        ) c
        ORDER BY p.band DESC, c.run_at, c.id
        LIMIT max_rows
      ) d
      GROUP BY d.lane, d.band, d.floor_at, d.floor_id
    ),
    locked AS MATERIALIZED (
      SELECT c.place, c.losses, row_number() OVER found AS ord, sum(c.bytes) OVER found AS bytes
      FROM due d
      CROSS JOIN LATERAL (
        SELECT e.ctid AS place, e.id, e.losses, e.run_at, octet_length(e.payload) AS bytes
        FROM ${s}.executions e
        WHERE e.state = 'queued' AND e.lane = d.lane AND e.band = d.band
          AND (e.run_at, e.id) >= (d.floor_at, d.floor_id) AND e.run_at <= ${s}.now()
          AND (e.start_by IS NULL OR e.attempts > 0 OR e.losses > 0 OR e.start_by > ${s}.now())
        ORDER BY e.run_at, e.id
        LIMIT d.n
        FOR NO KEY UPDATE SKIP LOCKED
      ) c
      WINDOW found AS (ORDER BY d.band DESC, c.run_at, c.id)
    ),
    -- As much as one answer should carry. A suspect goes alone: either it is the first and the only one, or what comes
    -- before it is taken.
    chosen AS MATERIALIZED (
      SELECT l.place, l.ord
      FROM locked l
      WHERE l.ord = 1 OR (
        l.bytes <= max_bytes
        AND l.ord < coalesce((SELECT min(m.ord) FROM locked m WHERE m.losses >= suspect_losses), max_rows + 1)
      )
    )
    UPDATE ${s}.executions e
    SET ${taking}
    FROM chosen c
    -- By their place, which cannot change under the lock. One that moved before it was locked is left for later.
    WHERE e.ctid = c.place
    RETURNING c.ord::integer, ${told("claimed")},
      -- Who runs it need not be on the disk before it runs: a claim that a crash of Postgres undoes leaves the execution
      -- queued, to be run again. Not so where it must never run again.
      CASE WHEN e.at_most_once THEN set_config('synchronous_commit', waits, true) IS NOT NULL ELSE false END,
      (SELECT count(*) FROM locked) > (SELECT count(*) FROM chosen);
  END
  $$
  `,

  // For a claim that failed by what a row holds: tries each of those that it may have been, and ends as failed the ones
  // that cannot be claimed, or carried to the client. What they hold may be anything, so what history keeps of it is made to fit.
  `
  CREATE FUNCTION ${s}.set_aside(
    me uuid, lane_ids bigint[], max_rows integer, max_bytes bigint, unreadable_result text,
    OUT set_aside uuid[], ${woken.replaceAll(/^(\s+)(woken|queues)/gm, "$1OUT $2")}
  )
  LANGUAGE plpgsql
  ${pinned}
  AS $$
  DECLARE
    claimed timestamptz := ${s}.clock();
    ended timestamptz := claimed;
    candidates uuid[];
    candidate uuid;
    probe record;
  BEGIN
    SELECT array_agg(d.id) INTO candidates
    FROM (
      SELECT c.id
      FROM unnest(lane_ids) AS l(lane)
      CROSS JOIN generate_series(0, 9) AS b(band)
      CROSS JOIN LATERAL (
        SELECT e.id, e.run_at
        FROM ${s}.executions e
        WHERE e.state = 'queued' AND e.lane = l.lane AND e.band = b.band AND e.run_at <= ${s}.now()
        ORDER BY e.run_at, e.id
        LIMIT max_rows
      ) c
      ORDER BY b.band DESC, c.run_at, c.id
      LIMIT max_rows
    ) d;
    FOR candidate IN
      SELECT e.id FROM ${s}.executions e
      WHERE e.id = ANY (candidates) AND e.state = 'queued'
      ORDER BY e.id
      FOR UPDATE SKIP LOCKED
    LOOP
      BEGIN
        UPDATE ${s}.executions e SET ${taking} WHERE e.id = candidate RETURNING ${told("claimed")} INTO probe;
        IF octet_length(probe.payload) > max_bytes THEN
          RAISE data_exception;
        END IF;
        RAISE SQLSTATE 'ERFIT';
      EXCEPTION
        -- It can be claimed, and is as it was.
        WHEN SQLSTATE 'ERFIT' THEN NULL;
        WHEN data_exception OR integrity_constraint_violation OR program_limit_exceeded THEN
          WITH gone AS (
            DELETE FROM ${s}.executions e WHERE e.id = candidate RETURNING e.*
          )${
    file(
      s,
      {
        from: "gone e",
        state: "'failed'",
        result: "unreadable_result",
        outcome: "NULL",
        attempt: "NULL",
        attempts: "e.attempts",
        losses: "e.losses",
        settled: "false",
        confirmed: "true",
        supervisor: "NULL",
        runnerRef: "NULL"
      },
      clamped
    )
  };
          set_aside := set_aside || candidate;
      END;
    END LOOP;
${takeWaiters(s, "set_aside")}
  END
  $$
  `,

  // What a supervisor holds: which, and how much there is to carry. A claim of its own that was cut off may still be under
  // way: the lock waits until it has ended, and the second statement sees what it took.
  `
  CREATE FUNCTION ${s}.owned_ids(me uuid) RETURNS TABLE (id uuid, fence bigint, bytes integer)
  LANGUAGE plpgsql
  ${pinned}
  AS $$
  #variable_conflict use_column
  BEGIN
${needReadCommitted}
    PERFORM 1 FROM ${s}.supervisors v WHERE v.id = me FOR UPDATE;
    RETURN QUERY
    SELECT e.id, e.fence::bigint, octet_length(e.payload)
    FROM ${s}.executions e
    WHERE e.owner = me AND e.state IN ('running', 'cancelling');
  END
  $$
  `,

  `
  CREATE FUNCTION ${s}.owned(me uuid, wanted uuid[]) RETURNS TABLE (${taken}, at_most_once boolean)
  LANGUAGE plpgsql STABLE
  ${pinned}
  AS $$
  #variable_conflict use_column
  BEGIN
    RETURN QUERY
    SELECT ${told("e.claimed_at")}, e.at_most_once
    FROM ${s}.executions e
    WHERE e.id = ANY (wanted) AND e.owner IS NOT DISTINCT FROM me AND e.state IN ('running', 'cancelling');
  END
  $$
  `
]
