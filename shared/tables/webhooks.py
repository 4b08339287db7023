"""Webhooks: their receivers, and every try of each delivery."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY

from shared.tables.columns import id_column, metadata, owner_column, time_column

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    id_column(),
    owner_column(),
    Column("name", Text, nullable=False),
    # NULL on the one default endpoint of an owner, whose secret signs the jobs' own webhooks.
    Column("url", Text),
    Column("event_types", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("secret", Text, nullable=False),
    Column("previous_secret", Text),
    time_column("previous_secret_until"),
    time_column("created_at", now=True),
    time_column("updated_at", now=True),
    time_column("failing_since"),
    time_column("disabled_at"),
    Column("disabled_reason", Text),
    time_column("deleted_at"),
    Index(
        "webhook_endpoints_default_idx",
        "owner_id",
        unique=True,
        postgresql_where=text("url IS NULL"),
    ),
    Index("webhook_endpoints_owner_idx", "owner_id", "id"),
)

deliveries = Table(
    "deliveries",
    metadata,
    id_column(),
    owner_column(),
    # Both are NULL for a test event, which is about no job.
    Column("job_id", Uuid, ForeignKey("jobs.id")),
    Column("batch_id", Uuid, ForeignKey("batches.id", ondelete="CASCADE")),
    Column("endpoint_id", Uuid, ForeignKey("webhook_endpoints.id"), nullable=False),
    Column("event", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("status", Text, nullable=False, server_default=text("'pending'")),
    Column("tries", Integer, nullable=False, server_default=text("0")),
    # Tries since the last replay: the place in the schedule.
    Column("round_tries", Integer, nullable=False, server_default=text("0")),
    time_column("created_at", now=True),
    time_column("next_at"),
    time_column("lease_until"),
    time_column("delivered_at"),
    Column("dead_reason", Text),
    UniqueConstraint("job_id", "endpoint_id", "event"),
    UniqueConstraint("batch_id", "endpoint_id", "event"),
    CheckConstraint("status IN ('pending', 'delivered', 'dead')", name="status"),
    CheckConstraint("(status = 'pending') = (next_at IS NOT NULL)", name="next"),
    Index("deliveries_due_idx", "next_at", postgresql_where=text("status = 'pending'")),
    # A claim reads the first due deliveries of each endpoint, and those that were tried apart.
    Index(
        "deliveries_receiver_idx",
        "endpoint_id",
        text("(round_tries > 0)"),
        "next_at",
        postgresql_where=text("next_at IS NOT NULL"),
    ),
    Index("deliveries_endpoint_idx", "endpoint_id", "id"),
    Index("deliveries_dead_idx", "id", postgresql_where=text("status = 'dead'")),
    Index(
        "deliveries_tests_idx",
        "created_at",
        postgresql_where=text("job_id IS NULL AND batch_id IS NULL"),
    ),
)

delivery_attempts = Table(
    "delivery_attempts",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("delivery_id", Uuid, ForeignKey("deliveries.id", ondelete="CASCADE"), nullable=False),
    time_column("at", now=True),
    Column("status_code", Integer),
    Column("latency_ms", Integer, nullable=False),
    Column("error", Text),
    Column("excerpt", Text),
    Index("delivery_attempts_delivery_idx", "delivery_id", "id"),
)
