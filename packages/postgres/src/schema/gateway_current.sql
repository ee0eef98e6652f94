-- Returns the newest gateway of a deployment on a cluster.
CREATE OR REPLACE FUNCTION {schema}.gateway_current(deployment text, cluster text) RETURNS TABLE (
  epoch integer, submission_id text, protocol integer, secret text, host text, port integer
)
LANGUAGE plpgsql STABLE
{pinned}
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT g.epoch::integer, g.submission_id, g.protocol, g.secret, g.host, g.port
  FROM {schema}.gateways g
  WHERE g.deployment = gateway_current.deployment AND g.cluster = gateway_current.cluster
  ORDER BY g.epoch DESC
  LIMIT 1;
END
$$;
