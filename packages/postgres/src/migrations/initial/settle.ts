import { file, pinned, takeWaiters, woken } from "./shared.ts"

/**
 * Records how attempts ended. What was proposed and what becomes of it meet here, under the rows' locks.
 *
 * | proposed | while running | while cancelling |
 * | --- | --- | --- |
 * | succeeded, failed, timed_out, lost_final | stands | stands |
 * | retry | queued, or failed when no attempt is left | cancelled |
 * | released | queued | cancelled, confirmed |
 * | returned | queued, with no attempt recorded | cancelled, confirmed |
 * | lost | queued | cancelled, unconfirmed |
 * | cancelled | cancelled | cancelled |
 *
 * `flags` says of a loss whether it counts, and of what was stopped whether that is confirmed.
 */
export const settle = (s: string): ReadonlyArray<string> => [
  `
  CREATE FUNCTION ${s}.settle(
    me uuid, ids uuid[], fences bigint[], kinds text[], results text[], delays_millis double precision[],
    flags boolean[], refs text[], cancelled_result text, unconfirmed_result text,
    -- Positions of those that are not this supervisor's to settle.
    OUT lease_lost integer[],
    ${woken.replaceAll(/^(\s+)(woken|queues)/gm, "$1OUT $2")}
  )
  LANGUAGE plpgsql
  ${pinned}
  AS $$
  DECLARE
    ended timestamptz := ${s}.clock();
    done bigint[];
    over uuid[];
    more bigint[];
    more_over uuid[];
  BEGIN
    -- Rows are found by their ids alone. \`IS NOT DISTINCT FROM\` keeps the index of owners out of the plan: under load
    -- it is full of dead entries, one for every row this supervisor ever held, and each id would read them all.
    -- Everybody locks in the order of ids, so that nobody can wait in a circle. Successes alone are deleted in the order
    -- given, which is that one. A mixed batch is locked as a whole first; so the second statement also sees what a
    -- cancel left there.
    IF 'succeeded' <> ANY (kinds) THEN
      PERFORM 1 FROM ${s}.executions e WHERE e.id = ANY (ids) AND e.owner IS NOT DISTINCT FROM me ORDER BY e.id FOR UPDATE;
    END IF;

    -- A success beats everything, so it needs no look at the row first. This is the path of nearly all.
    WITH gone AS (
      DELETE FROM ${s}.executions e
      USING unnest(ids, fences, kinds, results, refs) WITH ORDINALITY AS i(id, fence, kind, result, ref, ord)
      WHERE i.kind = 'succeeded' AND e.id = i.id AND e.fence = i.fence AND e.owner IS NOT DISTINCT FROM me
      RETURNING e.*, i.result, i.ref, i.ord
    ), filed AS (${
    file(s, {
      from: "gone e",
      state: "'succeeded'",
      result: "e.result",
      outcome: "'succeeded'",
      attempt: "e.attempts + 1",
      attempts: "e.attempts + 1",
      losses: "e.losses",
      settled: "true",
      confirmed: "true",
      supervisor: "e.owner",
      runnerRef: "e.ref"
    })
  }
    )
    SELECT array_agg(g.ord), array_agg(g.id) INTO done, over FROM gone g;
    IF cardinality(done) = cardinality(ids) THEN
${takeWaiters(s, "over")}
      RETURN;
    END IF;

    -- The rest is decided by the state of its row.
    WITH decided AS MATERIALIZED (
      SELECT DISTINCT ON (e.id)
        e.*, i.kind AS proposed, i.result, i.delay, i.flag, i.ref, i.ord,
        CASE
          WHEN i.kind IN ('failed', 'timed_out') THEN 'failed'
          WHEN i.kind = 'lost_final' THEN 'lost'
          WHEN i.kind = 'cancelled' OR e.state = 'cancelling' THEN 'cancelled'
          WHEN i.kind = 'retry' AND e.attempts + 1 >= e.max_attempts THEN 'failed'
          ELSE 'queued'
        END AS next,
        CASE
          WHEN i.kind IN ('cancelled', 'timed_out', 'retry') THEN i.flag
          WHEN i.kind = 'lost' THEN e.state <> 'cancelling'
          ELSE true
        END AS confirmed
      FROM unnest(ids, fences, kinds, results, delays_millis, flags, refs) WITH ORDINALITY
        AS i(id, fence, kind, result, delay, flag, ref, ord)
      JOIN ${s}.executions e ON e.id = i.id AND e.fence = i.fence
      WHERE e.owner IS NOT DISTINCT FROM me AND i.kind <> 'succeeded'
      ORDER BY e.id, i.ord
    ), gone AS (
      DELETE FROM ${s}.executions e USING decided d WHERE e.id = d.id AND d.next <> 'queued'
    ), filed AS (${
    file(s, {
      from: "decided e WHERE e.next <> 'queued'",
      state: "e.next",
      result:
        "CASE WHEN e.next = 'cancelled' THEN CASE WHEN e.confirmed THEN cancelled_result ELSE unconfirmed_result END ELSE e.result END",
      outcome: "CASE WHEN e.next = 'failed' AND e.proposed = 'timed_out' THEN 'timed_out' ELSE e.next END",
      attempt: "e.attempts + 1",
      attempts: "e.attempts + (e.next = 'failed')::integer",
      losses: "e.losses + (e.next = 'lost' AND e.flag)::integer",
      settled: "true",
      confirmed: "e.confirmed",
      supervisor: "e.owner",
      runnerRef: "e.ref"
    })
  }
    ), noted AS (
      INSERT INTO ${s}.attempts (
        execution_id, fence, attempt, outcome, supervisor, settled, confirmed, claimed_at, ended_at, result, runner_ref
      )
      SELECT e.id, e.fence, e.attempts + 1, e.proposed, e.owner, true, e.confirmed, e.claimed_at, ended, e.result, e.ref
      FROM decided e
      WHERE e.next = 'queued' AND e.proposed <> 'returned'
    ), back AS (
      UPDATE ${s}.executions e
      SET state = 'queued', owner = NULL, fence = e.fence + 1, claimed_at = NULL, deadline_at = NULL, runner_ref = NULL,
        run_at = CASE WHEN d.proposed = 'retry' THEN ended + d.delay * interval '1 millisecond' ELSE e.run_at END,
        attempts = e.attempts + (d.proposed = 'retry')::integer,
        losses = e.losses + (d.proposed = 'lost' AND d.flag)::integer
      FROM decided d
      WHERE e.id = d.id AND d.next = 'queued'
    )
    SELECT
      array_agg(d.ord),
      array_agg(d.id) FILTER (WHERE d.next <> 'queued'),
      array_agg(DISTINCT d.queue) FILTER (WHERE d.next = 'queued' AND d.proposed <> 'retry')
    INTO more, more_over, queues
    FROM decided d;
    done := done || more;
${takeWaiters(s, "over || more_over")}
    IF cardinality(done) = cardinality(ids) THEN
      RETURN;
    END IF;

    -- What this supervisor settled before, its acknowledgement lost, is settled.
    lease_lost := ARRAY(
      SELECT i.ord::integer
      FROM unnest(ids, fences) WITH ORDINALITY AS i(id, fence, ord)
      WHERE NOT coalesce(i.ord = ANY (done), false)
        AND NOT EXISTS (
          SELECT 1 FROM ${s}.history h WHERE h.id = i.id AND h.fence = i.fence AND h.supervisor = me AND h.settled
        )
        AND NOT EXISTS (
          SELECT 1 FROM ${s}.attempts a
          WHERE a.execution_id = i.id AND a.fence = i.fence AND a.supervisor = me AND a.settled
        )
    );
  END
  $$
  `
]
