"""Jobs, their inputs, and the notes about them."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from shared.lifecycle import Status
from shared.tables.columns import id_column, json_column, metadata, owner_column, time_column

_STATUSES = ", ".join(f"'{status}'" for status in Status)

batches = Table(
    "batches",
    metadata,
    id_column(),
    owner_column(),
    json_column("metadata"),
    Column("idempotency_key", Text),
    Column("idempotency_fingerprint", Text),
    # The receiver of `batch.finished`; the jobs have an address of their own for their ends.
    Column("webhook_url", Text),
    Column("webhook_headers", Text),
    Column("total", Integer, nullable=False, server_default=text("0")),
    Column("succeeded", Integer, nullable=False, server_default=text("0")),
    Column("failed", Integer, nullable=False, server_default=text("0")),
    Column("canceled", Integer, nullable=False, server_default=text("0")),
    time_column("created_at", now=True),
    time_column("canceled_at"),
    time_column("finished_at"),
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
    id_column(),
    owner_column(),
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
    # The GPU memory that the clip needs; NULL if its engine does not say.
    Column("gpu_bytes", BigInteger),
    # A paid provider's price for the clip, in millionths of a dollar; NULL if there is no
    # provider.
    Column("price_micros", BigInteger),
    # The fields that a worker must honour to render it as asked; other workers do not claim it.
    Column("needs", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    # No process writes it. It stays while gateways of the last release may select it.
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
    json_column("metadata"),
    Column("warnings", JSONB, nullable=False, server_default=text("'[]'")),
    # The estimate of the whole time when the job was made; NULL if there was none.
    Column("expected_seconds", Double),
    time_column("created_at", now=True),
    time_column("claim_at", null=False),
    time_column("due_at", null=False),
    time_column("queue_deadline"),
    Column("worker", Text),
    time_column("lease_until"),
    time_column("started_at"),
    time_column("finished_at"),
    Column("stage", Text),
    Column("step", Integer),
    Column("total_steps", Integer),
    Column("eta_seconds", Double),
    # The step that the newest preview shows; NULL while there is none. The image is in Redis.
    Column("preview_step", Integer),
    Column("error_code", Text),
    Column("error_message", Text),
    Column("error_retryable", Boolean),
    Column("result", JSONB),
    json_column("metrics"),
    Column("retain_seconds", Integer, nullable=False),
    time_column("expires_at"),
    time_column("expired_at"),
    time_column("deleted_at"),
    # When the prompt, the metadata and the addresses of a deleted job were removed.
    time_column("blanked_at"),
    time_column("sweep_at"),
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
    # Clients that follow an owner's jobs ask for those that ended or were deleted since.
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

# An engine's notes about a job, with which the next attempt continues; each write names its
# attempt.
checkpoints = Table(
    "checkpoints",
    metadata,
    Column("job_id", Uuid, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("attempt", Integer, nullable=False),
    Column("value", JSONB, nullable=False),
    # Something on another server must be ended when the job is canceled.
    Column("is_open", Boolean, nullable=False, server_default=text("false")),
    time_column("written_at", now=True),
    Index("checkpoints_open_idx", "job_id", postgresql_where=text("is_open")),
)

uploads = Table(
    "uploads",
    metadata,
    id_column(),
    owner_column(),
    Column("kind", Text, nullable=False, server_default=text("'image'")),
    Column("max_bytes", BigInteger, nullable=False),
    time_column("created_at", now=True),
    time_column("received_at"),
    time_column("expires_at", null=False),
    Index("uploads_expires_at_idx", "expires_at"),
    Index("uploads_owner_idx", "owner_id", "id"),
)
