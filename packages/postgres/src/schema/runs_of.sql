-- Returns runs that their caller owns, with the length of their journals and the messages in their inboxes.
CREATE OR REPLACE FUNCTION {schema}.runs_of(wanted uuid[], at timestamptz, max_unread integer, max_unread_bytes bigint) RETURNS TABLE (
  id uuid, name text, workflow text, payload text, format integer, fence bigint, link integer, length integer,
  unread text, started_millis double precision, expires_millis double precision, now_millis double precision,
  traceparent text
)
LANGUAGE plpgsql STABLE
{pinned}
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT e.id, e.key::text, e.task::text, e.payload::text, e.format::integer, e.fence::bigint, e.link::integer,
    coalesce((SELECT j.seq + 1 FROM {schema}.journal j WHERE j.run = e.id ORDER BY j.seq DESC LIMIT 1), 0),
    {schema}.unread_of(e.id, max_unread, max_unread_bytes),
    floor(date_part('epoch', coalesce(e.link_at, e.enqueued_at)) * 1000), floor(date_part('epoch', e.expires_at) * 1000),
    floor(date_part('epoch', at) * 1000), e.traceparent::text
  FROM {schema}.executions e
  WHERE e.id = ANY (wanted);
END
$$;
