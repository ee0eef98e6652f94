-- Returns the oldest messages in a run's inbox as a JSON array of [id, key, value, millis]; null if there are none. Values
-- that make it too long are left out, as null: see `values_of`.
CREATE OR REPLACE FUNCTION {schema}.unread_of(of_run uuid, max_unread integer, max_bytes bigint) RETURNS text
LANGUAGE sql STABLE
RETURN (
  SELECT json_agg(
    json_build_array(i.id, i.key, CASE WHEN i.bytes <= max_bytes THEN i.value END, floor(date_part('epoch', i.at) * 1000))
    ORDER BY i.id
  )::text
  FROM (
    SELECT m.*, sum(octet_length(m.value)) OVER (ORDER BY m.id) AS bytes
    FROM (SELECT b.* FROM {schema}.inbox b WHERE b.run = of_run ORDER BY b.id LIMIT max_unread) m
  ) i
);
