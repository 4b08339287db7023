"""The tables, in their final form; `migrations/` makes them and a test compares the two."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from shared.lifecycle import Status

ANONYMOUS: Final = UUID(int=0)
"""The one owner while no key exists."""

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    }
)


def _time(name: str, *, now: bool = False, null: bool = True) -> Column[datetime]:
    default = func.clock_timestamp() if now else None
    return Column(name, DateTime(timezone=True), nullable=null and not now, server_default=default)


def _json(name: str) -> Column[Any]:
    return Column(name, JSONB, nullable=False, server_default=text("'{}'"))


def _id() -> Column[UUID]:
    return Column("id", Uuid, primary_key=True)


def _owner() -> Column[UUID]:
    return Column("owner_id", Uuid, nullable=False)


_STATUSES = ", ".join(f"'{status}'" for status in Status)

api_keys = Table(
    "api_keys",
    metadata,
    _id(),
    Column("name", Text, nullable=False, unique=True),
    Column("prefix", Text, nullable=False, unique=True),
    Column("key_sha256", Text, nullable=False),
    Column("is_admin", Boolean, nullable=False, server_default=text("false")),
    Column("max_queued", Integer),
    Column("max_running", Integer),
    # NULL is every model, and no limit.
    Column("models", ARRAY(Text)),
    Column("is_read_only", Boolean, nullable=False, server_default=text("false")),
    Column("daily_seconds", Integer),
    # Dollars for hosted models; NULL is the settings' own limit.
    Column("daily_usd", Double),
    _time("created_at", now=True),
    _time("last_used_at"),
    _time("revoked_at"),
    # What a rotation replaced, while both work; the keeper forgets it.
    Column("previous_sha256", Text),
    _time("previous_works_until"),
    _time("rotated_at"),
)

owners = Table(
    "owners",
    metadata,
    _id(),
    # NULL but for an owner whom a login proxy vouches for.
    Column("login", Text, unique=True),
    # Links that carry a lower number open nothing.
    Column("link_epoch", BigInteger, nullable=False, server_default=text("0")),
    _time("created_at", now=True),
)

sessions = Table(
    "sessions",
    metadata,
    Column("token_sha256", Text, primary_key=True),
    # NULL for the ADMIN_KEY of the settings.
    Column("key_id", Uuid, ForeignKey("api_keys.id", ondelete="CASCADE")),
    # Tells whether the key still has the text that the session was made with.
    Column("key_mark", Text, nullable=False),
    _time("created_at", now=True),
    _time("expires_at", null=False),
    Index("sessions_key_id_idx", "key_id"),
    Index("sessions_expires_at_idx", "expires_at"),
)

batches = Table(
    "batches",
    metadata,
    _id(),
    _owner(),
    _json("metadata"),
    Column("idempotency_key", Text),
    Column("idempotency_fingerprint", Text),
    # Where `batch.finished` goes; the jobs have an address of their own for their ends.
    Column("webhook_url", Text),
    Column("webhook_headers", Text),
    Column("total", Integer, nullable=False, server_default=text("0")),
    Column("succeeded", Integer, nullable=False, server_default=text("0")),
    Column("failed", Integer, nullable=False, server_default=text("0")),
    Column("canceled", Integer, nullable=False, server_default=text("0")),
    _time("created_at", now=True),
    _time("canceled_at"),
    _time("finished_at"),
    CheckConstraint("succeeded + failed + canceled <= total", name="counts"),
    Index(
        "batches_idempotency_idx",
        "owner_id",
        "idempotency_key",
        unique=True,
        postgresql_where=text("idempotency_key IS NOT NULL"),
    ),
    Index("batches_owner_idx", "owner_id", "id"),
    Index("batches_finished_idx", "finished_at", postgresql_where=text("finished_at IS NOT NULL")),
)

jobs = Table(
    "jobs",
    metadata,
    _id(),
    _owner(),
    Column("status", Text, nullable=False),
    Column("attempt", Integer, nullable=False, server_default=text("0")),
    Column("failures", Integer, nullable=False, server_default=text("0")),
    Column("version", BigInteger, nullable=False, server_default=text("1")),
    Column("engine", Text, nullable=False),
    Column("engine_revision", Text, nullable=False),
    Column("parameters", JSONB, nullable=False),
    Column("outputs", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("priority", Text, nullable=False),
    Column("image_sha256", Text, nullable=False),
    Column("image_width", Integer, nullable=False),
    Column("image_height", Integer, nullable=False),
    # What the clip needs of a card; NULL where its engine does not say.
    Column("gpu_bytes", BigInteger),
    # What a paid provider takes for the clip, in millionths of a dollar; NULL where nobody does.
    Column("price_micros", BigInteger),
    # What a worker must honour to render it as asked; one that does not leaves it alone.
    Column("needs", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    # Written by nobody. It stays while gateways of the last release may select it.
    Column("keyframes", JSONB),
    Column("source", Text, nullable=False),
    Column("request_id", Text),
    Column("batch_id", Uuid, ForeignKey("batches.id")),
    Column("batch_position", Integer),
    Column("parent_id", Uuid),
    Column("idempotency_key", Text),
    Column("idempotency_fingerprint", Text),
    Column("webhook_url", Text),
    Column("webhook_event_types", ARRAY(Text)),
    # Sealed by a key of the installation's secret.
    Column("webhook_headers", Text),
    _json("metadata"),
    Column("warnings", JSONB, nullable=False, server_default=text("'[]'")),
    # What the estimate at its making said of the whole time; NULL where it said nothing.
    Column("expected_seconds", Double),
    _time("created_at", now=True),
    _time("claim_at", null=False),
    _time("due_at", null=False),
    _time("queue_deadline"),
    Column("worker", Text),
    _time("lease_until"),
    _time("started_at"),
    _time("finished_at"),
    Column("stage", Text),
    Column("step", Integer),
    Column("total_steps", Integer),
    Column("eta_seconds", Double),
    # The step that the newest preview shows; NULL while there is none. The picture is in Redis.
    Column("preview_step", Integer),
    Column("error_code", Text),
    Column("error_message", Text),
    Column("error_retryable", Boolean),
    Column("result", JSONB),
    _json("metrics"),
    Column("retain_seconds", Integer, nullable=False),
    _time("expires_at"),
    _time("expired_at"),
    _time("deleted_at"),
    # When the prompt, the metadata and the addresses of a deleted job were removed.
    _time("blanked_at"),
    _time("sweep_at"),
    CheckConstraint(f"status IN ({_STATUSES})", name="status"),
    CheckConstraint("attempt >= 0 AND failures >= 0 AND failures <= attempt", name="attempts"),
    CheckConstraint("(status = 'running') = (lease_until IS NOT NULL)", name="lease"),
    CheckConstraint("(status = 'succeeded') = (result IS NOT NULL)", name="result"),
    CheckConstraint("status <> 'failed' OR error_code IS NOT NULL", name="error"),
    # Beats rewrite a row once a second: no index may hold what they write, and the page keeps
    # room for the next version, so that they stay HOT.
    Index("jobs_queued_idx", "engine", "claim_at", postgresql_where=text("status = 'queued'")),
    Index(
        "jobs_owner_queued_idx",
        "owner_id",
        "claim_at",
        postgresql_where=text("status = 'queued'"),
    ),
    Index("jobs_running_idx", "id", postgresql_where=text("status = 'running'")),
    Index("jobs_owner_idx", "owner_id", "id"),
    # Each listing is a walk along one of these two, a status at a time.
    Index(
        "jobs_owner_status_idx",
        "owner_id",
        "status",
        "id",
        postgresql_where=text("deleted_at IS NULL"),
    ),
    Index(
        "jobs_owner_engine_idx",
        "owner_id",
        "engine",
        "status",
        "id",
        postgresql_where=text("deleted_at IS NULL"),
    ),
    # Whoever follows an owner's jobs asks for what ended or was deleted since.
    Index(
        "jobs_owner_finished_idx",
        "owner_id",
        "finished_at",
        "id",
        postgresql_where=text("finished_at IS NOT NULL"),
    ),
    Index(
        "jobs_owner_deleted_idx",
        "owner_id",
        "deleted_at",
        "id",
        postgresql_where=text("deleted_at IS NOT NULL"),
    ),
    Index("jobs_batch_id_idx", "batch_id", postgresql_where=text("batch_id IS NOT NULL")),
    Index(
        "jobs_idempotency_idx",
        "owner_id",
        "idempotency_key",
        unique=True,
        postgresql_where=text("idempotency_key IS NOT NULL"),
    ),
    Index("jobs_sweep_at_idx", "sweep_at", postgresql_where=text("sweep_at IS NOT NULL")),
    Index(
        "jobs_finished_idx",
        "engine",
        "finished_at",
        postgresql_where=text("finished_at IS NOT NULL"),
    ),
    Index("jobs_ended_idx", "finished_at", postgresql_where=text("finished_at IS NOT NULL")),
    Index(
        "jobs_expired_idx",
        "expired_at",
        postgresql_where=text("expired_at IS NOT NULL AND sweep_at IS NULL"),
    ),
    Index(
        "jobs_to_blank_idx",
        "deleted_at",
        postgresql_where=text("deleted_at IS NOT NULL AND blanked_at IS NULL"),
    ),
    postgresql_with={"fillfactor": "70"},
)

inputs = Table(
    "inputs",
    metadata,
    Column("job_id", Uuid, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("key", Text, nullable=False, unique=True),
    Column("sha256", Text, nullable=False),
    Column("width", Integer),
    Column("height", Integer),
    CheckConstraint("kind IN ('image', 'audio', 'video')", name="kind"),
)

# What an engine noted of a job that the next attempt goes on from; each write names its attempt.
checkpoints = Table(
    "checkpoints",
    metadata,
    Column("job_id", Uuid, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("attempt", Integer, nullable=False),
    Column("value", JSONB, nullable=False),
    # Something lives outside of here that has to be ended when the job is canceled.
    Column("is_open", Boolean, nullable=False, server_default=text("false")),
    _time("written_at", now=True),
    Index("checkpoints_open_idx", "job_id", postgresql_where=text("is_open")),
)

uploads = Table(
    "uploads",
    metadata,
    _id(),
    _owner(),
    Column("kind", Text, nullable=False, server_default=text("'image'")),
    Column("max_bytes", BigInteger, nullable=False),
    _time("created_at", now=True),
    _time("received_at"),
    _time("expires_at", null=False),
    Index("uploads_expires_at_idx", "expires_at"),
    Index("uploads_owner_idx", "owner_id", "id"),
)

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    _id(),
    _owner(),
    Column("name", Text, nullable=False),
    # NULL on the one default endpoint of an owner, whose secret signs the jobs' own webhooks.
    Column("url", Text),
    Column("event_types", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("secret", Text, nullable=False),
    Column("previous_secret", Text),
    _time("previous_secret_until"),
    _time("created_at", now=True),
    _time("updated_at", now=True),
    _time("failing_since"),
    _time("disabled_at"),
    Column("disabled_reason", Text),
    _time("deleted_at"),
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
    _id(),
    _owner(),
    # Both are NULL for a test event, which tells of nothing.
    Column("job_id", Uuid, ForeignKey("jobs.id")),
    Column("batch_id", Uuid, ForeignKey("batches.id", ondelete="CASCADE")),
    Column("endpoint_id", Uuid, ForeignKey("webhook_endpoints.id"), nullable=False),
    Column("event", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("status", Text, nullable=False, server_default=text("'pending'")),
    Column("tries", Integer, nullable=False, server_default=text("0")),
    # Tries since the last replay: the place in the schedule.
    Column("round_tries", Integer, nullable=False, server_default=text("0")),
    _time("created_at", now=True),
    _time("next_at"),
    _time("lease_until"),
    _time("delivered_at"),
    Column("dead_reason", Text),
    UniqueConstraint("job_id", "endpoint_id", "event"),
    UniqueConstraint("batch_id", "endpoint_id", "event"),
    CheckConstraint("status IN ('pending', 'delivered', 'dead')", name="status"),
    CheckConstraint("(status = 'pending') = (next_at IS NOT NULL)", name="next"),
    Index("deliveries_due_idx", "next_at", postgresql_where=text("status = 'pending'")),
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
    _time("at", now=True),
    Column("status_code", Integer),
    Column("latency_ms", Integer, nullable=False),
    Column("error", Text),
    Column("excerpt", Text),
    Index("delivery_attempts_delivery_idx", "delivery_id", "id"),
)

workers = Table(
    "workers",
    metadata,
    Column("name", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("device", Text, nullable=False),
    Column("device_name", Text),
    Column("vram_bytes", BigInteger),
    # Room where clips are made; NULL from a worker that does not say.
    Column("free_bytes", BigInteger),
    Column("engines", ARRAY(Text), nullable=False),
    Column("resident_engine", Text),
    Column("state", Text, nullable=False),
    Column("model_loads", BigInteger, nullable=False, server_default=text("0")),
    # What these loads took, with the unloading of the model before.
    Column("load_seconds", Double, nullable=False, server_default=text("0")),
    # Engine -> how its weights stand there.
    Column("weights", JSONB, nullable=False, server_default=text("'{}'")),
    _time("started_at", now=True),
    _time("beat_at", now=True),
    postgresql_with={"fillfactor": "70"},
)

engines = Table(
    "engines",
    metadata,
    Column("name", Text, primary_key=True),
    Column("spec", JSONB, nullable=False),
    Column("rank", Integer, nullable=False, server_default=text("0")),
    _time("updated_at", now=True),
)

# What /readyz writes to find out whether Postgres takes a write.
probes = Table(
    "probes",
    metadata,
    Column("name", Text, primary_key=True),
    _time("at", now=True),
    postgresql_with={"fillfactor": "70"},
)

# What ended so far, counted: rows are purged, and the figures of a scrape may only grow. `engine`
# is empty where the outcome is a webhook's.
tallies = Table(
    "tallies",
    metadata,
    Column("name", Text, primary_key=True),
    Column("engine", Text, primary_key=True),
    Column("outcome", Text, primary_key=True),
    Column("count", BigInteger, nullable=False),
    Column("seconds", Double, nullable=False, server_default=text("0")),
)

# How far the tallies have come: jobs that ended before `until_at`, tries up to `until_id`.
# `seen_id` was the newest try at the last look.
tally_marks = Table(
    "tally_marks",
    metadata,
    Column("name", Text, primary_key=True),
    _time("until_at", now=True),
    Column("until_id", BigInteger, nullable=False, server_default=text("0")),
    Column("seen_id", BigInteger, nullable=False, server_default=text("0")),
)

# What each owner asked for and got, by UTC day and engine. `reserved_ms` is of the clips submitted
# that day, but for those that failed or were canceled: what a key's daily limit is compared with.
# The others count on the day of the end.
usage_days = Table(
    "usage_days",
    metadata,
    Column("owner_id", Uuid, primary_key=True),
    Column("day", Date, primary_key=True),
    Column("engine", Text, primary_key=True),
    Column("reserved_ms", BigInteger, nullable=False, server_default=text("0")),
    Column("succeeded", BigInteger, nullable=False, server_default=text("0")),
    Column("failed", BigInteger, nullable=False, server_default=text("0")),
    Column("canceled", BigInteger, nullable=False, server_default=text("0")),
    Column("video_ms", BigInteger, nullable=False, server_default=text("0")),
    Column("render_seconds", Double, nullable=False, server_default=text("0")),
    # Of paid providers, in millionths of a dollar: as the two of milliseconds.
    Column("reserved_micros", BigInteger, nullable=False, server_default=text("0")),
    Column("cost_micros", BigInteger, nullable=False, server_default=text("0")),
    Index("usage_days_paid_idx", "day", postgresql_where=text("cost_micros > 0")),
    postgresql_with={"fillfactor": "70"},
)

# Engines whose jobs wait until an admin resumes them; an empty name is every engine.
pauses = Table(
    "pauses",
    metadata,
    Column("engine", Text, primary_key=True),
    Column("reason", Text),
    _time("since", now=True),
)
