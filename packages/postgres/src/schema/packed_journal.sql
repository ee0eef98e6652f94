-- Returns the journal of an open run as a JSON array, on request with the messages that it has not read at the end.
CREATE OR REPLACE FUNCTION {schema}.packed_journal(of_run uuid, with_unread boolean) RETURNS text
LANGUAGE sql STABLE
RETURN (
  SELECT '[' || coalesce(string_agg(p.entry, ',' ORDER BY p.is_unread, p.n), '') || ']'
  FROM (
    SELECT false AS is_unread, j.seq::bigint AS n,
      json_build_object('key', j.key, 'outside', j.outside, 'value', j.value, 'at', round(date_part('epoch', j.at) * 1000))::text
        AS entry
    FROM {schema}.journal j
    WHERE j.run = of_run
    UNION ALL
    SELECT true, i.id,
      json_build_object(
        'key', i.key, 'outside', true, 'value', i.value, 'at', floor(date_part('epoch', i.at) * 1000), 'unread', true
      )::text
    FROM {schema}.inbox i
    WHERE with_unread AND i.run = of_run
  ) p
);
