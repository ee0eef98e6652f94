-- Starts a supervisor's lease. Repeating it after a lost acknowledgement changes nothing: only ticks renew a lease.
CREATE OR REPLACE FUNCTION {schema}.register(
  me uuid, label text, lane_ids bigint[], lease_millis double precision, in_process text
)
RETURNS void
LANGUAGE plpgsql
{pinned}
AS $$
DECLARE
  registered timestamptz := {schema}.clock();
BEGIN
  INSERT INTO {schema}.supervisors (id, label, lanes, registered_at, lease_millis, expires_at, process)
  SELECT me, register.label, lane_ids, registered, register.lease_millis,
    registered + register.lease_millis * interval '1 millisecond', in_process
  ON CONFLICT (id) DO NOTHING;
END
$$;
