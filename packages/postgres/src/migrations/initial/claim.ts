import { pinned } from "./shared.ts"

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
    ord integer, id uuid, fence bigint, lane bigint, band smallint, task text, queue text, priority smallint, payload text,
    format integer, attempt integer, losses integer, max_attempts integer, timeout_millis double precision, at_most_once boolean,
    traceparent text, claimed_millis double precision, waited_millis double precision, run_seconds double precision,
    more boolean
  )
  LANGUAGE plpgsql
  ${pinned}
  AS $$
  #variable_conflict use_column
  DECLARE
    claimed timestamptz := ${s}.clock();
    waits text := current_setting('synchronous_commit');
  BEGIN
    PERFORM ${s}.need_read_committed();
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
    SET state = 'running', owner = me, fence = e.fence + 1, claimed_at = claimed,
      deadline_at = claimed + e.timeout_millis * interval '1 millisecond'
    FROM chosen c
    -- By their place, which cannot change under the lock. One that moved before it was locked is left for later.
    WHERE e.ctid = c.place
    RETURNING c.ord::integer, e.id, e.fence, e.lane, e.band, e.task, e.queue, e.priority, e.payload, e.format, e.attempts + 1,
      e.losses, e.max_attempts, e.timeout_millis,
      -- Who runs it need not be on the disk before it runs: a claim that a crash of Postgres undoes leaves the execution
      -- queued, to be run again. Not so where it must never run again.
      CASE WHEN e.at_most_once THEN set_config('synchronous_commit', waits, true) IS NOT NULL ELSE false END, e.traceparent,
      date_part('epoch', claimed) * 1000, date_part('epoch', claimed - e.run_at) * 1000, date_part('epoch', e.run_at),
      (SELECT count(*) FROM locked) > (SELECT count(*) FROM chosen);
  END
  $$
  `,

  // What a supervisor holds. A claim of its own that was cut off may still be under way: the lock waits until it has
  // ended, and the second statement sees what it took.
  `
  CREATE FUNCTION ${s}.owned(me uuid) RETURNS TABLE (
    id uuid, fence bigint, task text, queue text, priority smallint, payload text, format integer, attempt integer,
    losses integer, max_attempts integer, timeout_millis double precision, at_most_once boolean, traceparent text,
    claimed_millis double precision, waited_millis double precision
  )
  LANGUAGE plpgsql
  ${pinned}
  AS $$
  #variable_conflict use_column
  BEGIN
    PERFORM ${s}.need_read_committed();
    PERFORM 1 FROM ${s}.supervisors v WHERE v.id = me FOR UPDATE;
    RETURN QUERY
    SELECT e.id, e.fence, e.task, e.queue, e.priority, e.payload, e.format, e.attempts + 1, e.losses, e.max_attempts,
      e.timeout_millis, e.at_most_once, e.traceparent, date_part('epoch', e.claimed_at) * 1000,
      date_part('epoch', e.claimed_at - e.run_at) * 1000
    FROM ${s}.executions e
    WHERE e.owner = me AND e.state IN ('running', 'cancelling');
  END
  $$
  `
]
