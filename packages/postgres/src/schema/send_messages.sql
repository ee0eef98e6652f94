-- Appends messages to inboxes, and notes which runs to wake when this has been committed. Locks nothing.
CREATE OR REPLACE FUNCTION {schema}.send_messages(runs uuid[], keys text[], message_values text[]) RETURNS void
LANGUAGE plpgsql
{pinned}
AS $$
DECLARE
  sent timestamptz := {schema}.clock();
BEGIN
  INSERT INTO {schema}.inbox (run, key, value, at)
  SELECT i.run, i.key, i.value, sent
  FROM unnest(runs, keys, message_values) WITH ORDINALITY AS i(run, key, value, ord)
  ORDER BY i.ord;
  INSERT INTO {schema}.wakes (run) SELECT DISTINCT i.run FROM unnest(runs) AS i(run);
END
$$;
