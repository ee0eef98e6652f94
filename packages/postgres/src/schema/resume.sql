-- Resumes a queue or a task. Returns false if it was not paused.
CREATE OR REPLACE FUNCTION {schema}.resume(kind text, name text) RETURNS boolean
LANGUAGE plpgsql
{pinned}
AS $$
BEGIN
  DELETE FROM {schema}.pauses p WHERE p.kind = resume.kind AND p.name = resume.name;
  RETURN FOUND;
END
$$;
