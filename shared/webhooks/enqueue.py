"""The deliveries that a transition writes, in the same transaction."""

from typing import Final
from uuid import UUID

from sqlalchemy import Connection, text

from shared.webhooks.events import BATCH_FINISHED
from shared.webhooks.signing import new_secret

DEFAULT_ENDPOINT: Final = text(
    "INSERT INTO webhook_endpoints (id, owner_id, name, secret)"
    " VALUES (gen_random_uuid(), :owner_id, 'default', :secret)"
    " ON CONFLICT (owner_id) WHERE url IS NULL DO NOTHING"
)

# A uuid7, so that pages of deliveries follow the index on (endpoint_id, id); Postgres itself can
# draw them only from version 18 on.
NEW_ID: Final = """
encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid()) PLACING substring(int8send(
    (extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) FROM 1 FOR 6), 52, 1), 53, 1),
    'hex')::uuid
"""

# A disabled endpoint gets deliveries too: the keeper makes them dead letters at once, so that they
# can be replayed when it is enabled again.
DELIVERIES: Final = text(f"""
INSERT INTO deliveries (id, owner_id, job_id, endpoint_id, event, url, next_at)
SELECT {NEW_ID}, j.owner_id, j.id, e.id, told.event, coalesce(e.url, j.webhook_url),
       clock_timestamp() + :first_try
FROM jobs j JOIN webhook_endpoints e ON e.owner_id = j.owner_id
CROSS JOIN unnest(CAST(:events AS text[])) AS told(event)
WHERE j.id = ANY(:job_ids) AND e.deleted_at IS NULL AND CASE
    WHEN e.url IS NULL
    THEN j.webhook_url IS NOT NULL AND told.event = ANY(j.webhook_event_types)
    ELSE told.event = ANY(e.event_types) END
ON CONFLICT (job_id, endpoint_id, event) DO NOTHING
""")

BATCH_DELIVERIES: Final = text(f"""
INSERT INTO deliveries (id, owner_id, batch_id, endpoint_id, event, url, next_at)
SELECT {NEW_ID}, b.owner_id, b.id, e.id, '{BATCH_FINISHED}', coalesce(e.url, b.webhook_url),
       clock_timestamp() + :first_try
FROM batches b JOIN webhook_endpoints e ON e.owner_id = b.owner_id
WHERE b.id = :batch_id AND e.deleted_at IS NULL AND CASE
    WHEN e.url IS NULL THEN b.webhook_url IS NOT NULL
    ELSE '{BATCH_FINISHED}' = ANY(e.event_types) END
ON CONFLICT (batch_id, endpoint_id, event) DO NOTHING
""")


def ensure_default_endpoint(connection: Connection, owner_id: UUID) -> None:
    """Make the endpoint whose secret signs an owner's one-off webhooks, if it is missing."""
    connection.execute(DEFAULT_ENDPOINT, {"owner_id": owner_id, "secret": new_secret()})
