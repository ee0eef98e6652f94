-- Pauses a queue or a task. Returns false if it was already paused.
CREATE OR REPLACE FUNCTION {schema}.pause(kind text, name text) RETURNS boolean
LANGUAGE plpgsql
{pinned}
AS $$
BEGIN
  INSERT INTO {schema}.pauses (kind, name, paused_at)
  VALUES (pause.kind, pause.name, {schema}.clock())
  ON CONFLICT ON CONSTRAINT pauses_pkey DO NOTHING;
  RETURN FOUND;
END
$$;
