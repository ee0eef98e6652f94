-- Returns the oldest messages in a run's inbox as a JSON array of [id, key, value, millis]; null if there are none.
CREATE OR REPLACE FUNCTION {schema}.unread_of(of_run uuid, max_unread integer) RETURNS text
LANGUAGE sql STABLE
RETURN (
  SELECT json_agg(json_build_array(i.id, i.key, i.value, date_part('epoch', i.at) * 1000) ORDER BY i.id)::text
  FROM (SELECT m.* FROM {schema}.inbox m WHERE m.run = of_run ORDER BY m.id LIMIT max_unread) i
);
