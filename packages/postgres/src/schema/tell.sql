-- Sends messages. They report what is already stored, so they need not wait for the disk. Sending is not a write, so a
-- server that takes no writes would accept it, but listeners on the server that does take writes would not receive it.
CREATE OR REPLACE FUNCTION {schema}.tell(channels text[], messages text[]) RETURNS void
LANGUAGE plpgsql
{pinned}
AS $$
BEGIN
  IF current_setting('transaction_read_only') = 'on' THEN
    RAISE EXCEPTION 'this server takes no writes' USING ERRCODE = 'read_only_sql_transaction';
  END IF;
  PERFORM set_config('synchronous_commit', 'off', true);
  PERFORM pg_notify(n.channel, n.message) FROM unnest(channels, messages) AS n(channel, message);
END
$$;
