import { file, needReadCommitted, pinned, takeWaiters, woken } from "./shared.ts"

/** How many executions one statement of a tick expires, and how many such statements a tick has. */
const expiryBatch = 1_000
const maxExpiryBatches = 20

/** How many owners that no supervisor has the name of one tick takes everything from. */
const maxOrphaned = 20

/** How many supervisors one tick takes everything from. It must not take longer than its lease. */
const maxReaped = 20

/** How many tokens of grouped writes a tick forgets: more than are written between two ticks. */
const maxForgotten = 50_000

/**
 * `retake` takes executions back from supervisors that are gone, `unregister` ends a lease in peace, and `tick` is the
 * upkeep of a worker in one round trip.
 */
export const retake = (s: string): ReadonlyArray<string> => [
  // The same again, after a lost acknowledgement, changes nothing: only ticks renew a lease.
  `
  CREATE FUNCTION ${s}.register(me uuid, label text, lane_ids bigint[], lease_millis double precision) RETURNS void
  LANGUAGE plpgsql
  ${pinned}
  AS $$
  DECLARE
    registered timestamptz := ${s}.clock();
  BEGIN
    INSERT INTO ${s}.supervisors (id, label, lanes, registered_at, lease_millis, expires_at)
    SELECT me, register.label, lane_ids, registered, register.lease_millis,
      registered + register.lease_millis * interval '1 millisecond'
    ON CONFLICT (id) DO NOTHING;
  END
  $$
  `,

  // Why a supervisor does not claim lanes that it serves; NULL when it claims them again. Of a supervisor that is gone there is
  // nothing to say.
  `
  CREATE FUNCTION ${s}.hold(me uuid, lane_ids bigint[], reason text) RETURNS void
  LANGUAGE plpgsql
  ${pinned}
  AS $$
  BEGIN
    IF reason IS NULL THEN
      DELETE FROM ${s}.holds o WHERE o.supervisor = me AND o.lane = ANY (lane_ids);
    ELSE
      INSERT INTO ${s}.holds (supervisor, lane, reason)
      SELECT v.id, l.id, hold.reason
      FROM ${s}.supervisors v CROSS JOIN unnest(lane_ids) AS l(id)
      WHERE v.id = me
      FOR KEY SHARE OF v
      ON CONFLICT (supervisor, lane) DO UPDATE SET reason = excluded.reason;
    END IF;
  END
  $$
  `,

  // The supervisors' rows are deleted before, in a statement of their own, so that no claim of theirs is under way.
  `
  CREATE FUNCTION ${s}.retake(
    owners uuid[], losing boolean, max_losses integer, lost_result text, quarantined_result text, cancelled_result text
  ) RETURNS TABLE (taken integer, ${woken})
  LANGUAGE plpgsql
  ${pinned}
  AS $$
  DECLARE
    ended timestamptz := ${s}.clock();
    over uuid[];
  BEGIN
${needReadCommitted}
    PERFORM 1 FROM ${s}.executions e WHERE e.owner = ANY (owners) ORDER BY e.id FOR UPDATE;
    WITH decided AS MATERIALIZED (
      SELECT e.*,
        CASE
          WHEN e.state = 'cancelling' THEN 'cancelled'
          -- At-most-once: it may have run, however its owner left.
          WHEN e.at_most_once OR (losing AND e.losses + 1 >= max_losses) THEN 'lost'
          ELSE 'queued'
        END AS next
      FROM ${s}.executions e
      WHERE e.owner = ANY (owners)
    ), gone AS (
      DELETE FROM ${s}.executions e USING decided d WHERE e.id = d.id AND d.next <> 'queued'
    ), filed AS (${
    file(s, {
      from: "decided e WHERE e.next <> 'queued'",
      state: "e.next",
      result:
        "CASE WHEN e.next = 'cancelled' THEN cancelled_result WHEN e.at_most_once THEN lost_result ELSE quarantined_result END",
      outcome: "e.next",
      attempt: "e.attempts + 1",
      attempts: "e.attempts",
      losses: "e.losses + (losing AND e.next = 'lost')::integer",
      settled: "false",
      confirmed: "NOT losing AND e.next <> 'lost'",
      supervisor: "e.owner",
      runnerRef: "e.runner_ref"
    })
  }
    ), noted AS (
      INSERT INTO ${s}.attempts (
        execution_id, fence, attempt, outcome, supervisor, settled, confirmed, claimed_at, ended_at, result, runner_ref
      )
      SELECT e.id, e.fence, e.attempts + 1, CASE WHEN losing THEN 'lost' ELSE 'released' END, e.owner, false, NOT losing,
        e.claimed_at, ended, CASE WHEN losing THEN lost_result END, e.runner_ref
      FROM decided e
      WHERE e.next = 'queued'
    ), back AS (
      UPDATE ${s}.executions e
      SET state = 'queued', owner = NULL, fence = e.fence + 1, claimed_at = NULL, deadline_at = NULL, runner_ref = NULL,
        losses = e.losses + losing::integer
      FROM decided d
      WHERE e.id = d.id AND d.next = 'queued'
    )
    SELECT
      count(*)::integer,
      array_agg(d.id) FILTER (WHERE d.next <> 'queued'),
      array_agg(DISTINCT d.queue) FILTER (WHERE d.next = 'queued')
    INTO taken, over, queues
    FROM decided d;
${takeWaiters(s, "over")}
    RETURN NEXT;
  END
  $$
  `,

  `
  CREATE FUNCTION ${s}.unregister(me uuid, lost_result text, cancelled_result text)
  RETURNS TABLE (taken integer, ${woken})
  LANGUAGE plpgsql
  ${pinned}
  AS $$
  #variable_conflict use_column
  BEGIN
    DELETE FROM ${s}.supervisors v WHERE v.id = me;
    RETURN QUERY SELECT * FROM ${s}.retake(ARRAY[me], false, 0, lost_result, NULL, cancelled_result);
  END
  $$
  `,

  `
  CREATE FUNCTION ${s}.tick(
    me uuid, lease_millis double precision, lane_ids bigint[],
    -- The upkeep for all: what lapsed and what came too late. Now and then also what nobody owns who is known.
    upkeep boolean, orphans boolean, max_losses integer,
    lost_result text, quarantined_result text, unconfirmed_result text, expired_result text,
    OUT alive boolean,
    OUT cancelling uuid[],
    OUT reaped integer,
    OUT next_due_millis double precision,
    ${woken.replaceAll(/^(\s+)(woken|queues)/gm, "$1OUT $2")}
  )
  LANGUAGE plpgsql
  ${pinned}
  AS $$
  DECLARE
    ended timestamptz := ${s}.clock();
    lapsed uuid[];
    over uuid[];
    more_processes text[];
    more_ids uuid[];
  BEGIN
    -- A lapsed supervisor is never revived: its executions may have other owners already.
    UPDATE ${s}.supervisors v
    SET lease_millis = tick.lease_millis, expires_at = ended + tick.lease_millis * interval '1 millisecond'
    WHERE v.id = me AND ${s}.lease_end(v.expires_at, v.lease_millis) > ended;
    alive := FOUND;
    reaped := 0;

    -- First the supervisor is gone, then its executions are looked for: a claim of its own that was under way has
    -- been seen to its end by then, and no later one can begin.
    WITH gone AS (
      DELETE FROM ${s}.supervisors v
      WHERE v.id IN (
        SELECT l.id
        FROM ${s}.supervisors l
        WHERE upkeep AND ${s}.lease_end(l.expires_at, l.lease_millis) <= ended
        ORDER BY l.id
        LIMIT ${maxReaped}
        FOR UPDATE SKIP LOCKED
      )
      RETURNING v.id
    )
    SELECT array_agg(g.id) INTO lapsed FROM gone g;
    IF upkeep AND orphans THEN
      SELECT lapsed || array_agg(o.owner) INTO lapsed
      FROM (
        SELECT DISTINCT e.owner FROM ${s}.executions e
        WHERE e.owner IS NOT NULL AND NOT EXISTS (SELECT 1 FROM ${s}.supervisors v WHERE v.id = e.owner)
        LIMIT ${maxOrphaned}
      ) o;
    END IF;
    IF lapsed IS NOT NULL THEN
      SELECT r.taken, r.woken_processes, r.woken_ids, r.queues
      INTO reaped, woken_processes, woken_ids, queues
      FROM ${s}.retake(lapsed, true, max_losses, lost_result, quarantined_result, unconfirmed_result) r;
    END IF;

    -- What was not started in time: a full batch may not be all.
    FOR round IN 1..${maxExpiryBatches} LOOP
      EXIT WHEN NOT upkeep;
      WITH gone AS (
        DELETE FROM ${s}.executions e
        WHERE e.id IN (
          SELECT x.id
          FROM ${s}.executions x
          WHERE x.state = 'queued' AND x.attempts = 0 AND x.losses = 0 AND x.start_by IS NOT NULL
            AND x.start_by <= ${s}.now()
          ORDER BY x.start_by
          LIMIT ${expiryBatch}
          FOR UPDATE SKIP LOCKED
        )
        RETURNING e.*
      ), filed AS (${
    file(s, {
      from: "gone e",
      state: "'expired'",
      result: "expired_result",
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
${takeWaiters(s, "over", "more_processes", "more_ids")}
      woken_processes := woken_processes || more_processes;
      woken_ids := woken_ids || more_ids;
      EXIT WHEN coalesce(cardinality(over), 0) < ${expiryBatch};
    END LOOP;

    SELECT array_agg(e.id) INTO cancelling FROM ${s}.executions e WHERE e.owner = me AND e.state = 'cancelling';

    SELECT (date_part('epoch', min(d.run_at)) - date_part('epoch', ${s}.now())) * 1000
    INTO next_due_millis
    FROM unnest(lane_ids) AS l(lane)
    CROSS JOIN generate_series(0, 9) AS b(band)
    CROSS JOIN LATERAL (
      SELECT e.run_at
      FROM ${s}.executions e
      WHERE e.state = 'queued' AND e.lane = l.lane AND e.band = b.band
      ORDER BY e.run_at, e.id
      LIMIT 1
    ) d;

    DELETE FROM ${s}.batches b WHERE b.id IN (
      SELECT o.id FROM ${s}.batches o WHERE o.written_at < ended - interval '1 hour'
      ORDER BY o.written_at LIMIT ${maxForgotten} FOR UPDATE SKIP LOCKED
    );
    DELETE FROM ${s}.keys k WHERE (k.scope, k.key) IN (
      SELECT o.scope, o.key FROM ${s}.keys o WHERE o.expires_at IS NOT NULL AND o.expires_at <= ended
      ORDER BY o.expires_at LIMIT 1000 FOR UPDATE SKIP LOCKED
    );
  END
  $$
  `
]
