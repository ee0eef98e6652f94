-- Sends messages. They tell of what is stored already, so they need not wait for the disk. Sending is no write, so a
-- server that takes none would take it, and those who listen where writes are taken would not hear.
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
