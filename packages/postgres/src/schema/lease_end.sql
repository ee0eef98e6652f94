-- Returns when a lease ends. While the server was down, no supervisor could renew its lease, so every lease begins anew
-- at the server's start. An outage longer than a lease then takes nothing from workers that are alive, and the others
-- lapse one lease later.
CREATE OR REPLACE FUNCTION {schema}.lease_end(expires_at timestamptz, lease_millis double precision) RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE
RETURN greatest(expires_at, pg_postmaster_start_time() + lease_millis * interval '1 millisecond');
