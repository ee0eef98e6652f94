-- Returns messages of a run's inbox whole, one a row.
CREATE OR REPLACE FUNCTION {schema}.values_of(of_run uuid, wanted bigint[]) RETURNS TABLE (id bigint, value text)
LANGUAGE plpgsql STABLE
{pinned}
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT b.id, b.value::text FROM {schema}.inbox b WHERE b.run = of_run AND b.id = ANY (wanted);
END
$$;
