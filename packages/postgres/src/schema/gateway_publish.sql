-- Records where a gateway listens.
CREATE OR REPLACE FUNCTION {schema}.gateway_publish(
  deployment text, cluster text, epoch integer, host text, port integer
) RETURNS void
LANGUAGE plpgsql
{pinned}
AS $$
BEGIN
  UPDATE {schema}.gateways g
  SET host = gateway_publish.host, port = gateway_publish.port
  WHERE g.deployment = gateway_publish.deployment AND g.cluster = gateway_publish.cluster
    AND g.epoch = gateway_publish.epoch;
END
$$;
