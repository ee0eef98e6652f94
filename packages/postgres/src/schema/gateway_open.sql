-- Inserts a new gateway, unless another process has inserted this epoch or a later one, and returns whether it did.
-- Forgets older gateways, except for those whose workers may still be using them.
CREATE OR REPLACE FUNCTION {schema}.gateway_open(
  deployment text, cluster text, epoch integer, submission_id text, protocol integer, secret text, host text,
  port integer, kept_epochs integer
) RETURNS boolean
LANGUAGE plpgsql
{pinned}
AS $$
BEGIN
  IF EXISTS (
    SELECT 1
    FROM {schema}.gateways g
    WHERE g.deployment = gateway_open.deployment AND g.cluster = gateway_open.cluster AND g.epoch >= gateway_open.epoch
  ) THEN
    RETURN false;
  END IF;
  DELETE FROM {schema}.gateways g
  WHERE g.deployment = gateway_open.deployment AND g.cluster = gateway_open.cluster
    AND g.epoch <= gateway_open.epoch - kept_epochs;
  INSERT INTO {schema}.gateways (deployment, cluster, epoch, submission_id, protocol, secret, host, port, opened_at)
  VALUES (
    gateway_open.deployment, gateway_open.cluster, gateway_open.epoch, gateway_open.submission_id,
    gateway_open.protocol, gateway_open.secret, gateway_open.host, gateway_open.port, {schema}.clock()
  )
  ON CONFLICT ON CONSTRAINT gateways_pkey DO NOTHING;
  RETURN FOUND;
END
$$;
