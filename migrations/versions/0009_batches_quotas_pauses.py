"""Batches that know their end, limits of keys, usage by day, and a queue that can be paused.

Revision ID: 0009
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0009"
down_revision: str | None = "0008"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_NOW = sa.text("clock_timestamp()")
_TIME = sa.DateTime(timezone=True)
_ZERO = sa.text("0")
_COUNTS = ("total", "succeeded", "failed", "canceled")
_ENDS = ("succeeded", "failed", "canceled")


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("models", postgresql.ARRAY(sa.Text())))
    op.add_column(
        "api_keys",
        sa.Column("is_read_only", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )
    op.add_column("api_keys", sa.Column("daily_seconds", sa.Integer()))
    _batches()
    op.create_table(
        "usage_days",
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("engine", sa.Text(), nullable=False),
        sa.Column("reserved_ms", sa.BigInteger(), server_default=_ZERO, nullable=False),
        *(sa.Column(end, sa.BigInteger(), server_default=_ZERO, nullable=False) for end in _ENDS),
        sa.Column("video_ms", sa.BigInteger(), server_default=_ZERO, nullable=False),
        sa.Column("render_seconds", sa.Double(), server_default=_ZERO, nullable=False),
        sa.PrimaryKeyConstraint("owner_id", "day", "engine", name=op.f("usage_days_pkey")),
        postgresql_with={"fillfactor": "70"},
    )
    op.create_table(
        "pauses",
        sa.Column("engine", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("since", _TIME, server_default=_NOW, nullable=False),
        sa.PrimaryKeyConstraint("engine", name=op.f("pauses_pkey")),
    )
    op.execute(_SUM_UP)


def _batches() -> None:
    op.add_column("batches", sa.Column("webhook_url", sa.Text()))
    for name in _COUNTS:
        op.add_column(
            "batches", sa.Column(name, sa.Integer(), server_default=_ZERO, nullable=False)
        )
    op.add_column("batches", sa.Column("finished_at", _TIME))
    op.create_check_constraint(
        op.f("batches_counts_check"), "batches", "succeeded + failed + canceled <= total"
    )
    op.create_index("batches_owner_idx", "batches", ["owner_id", "id"])
    op.create_index(
        "batches_finished_idx",
        "batches",
        ["finished_at"],
        postgresql_where=sa.text("finished_at IS NOT NULL"),
    )
    op.add_column("jobs", sa.Column("batch_position", sa.Integer()))
    op.add_column("deliveries", sa.Column("batch_id", sa.Uuid()))
    op.create_foreign_key(
        op.f("deliveries_batch_id_fkey"),
        "deliveries",
        "batches",
        ["batch_id"],
        ["id"],
        ondelete="CASCADE",
    )
    op.create_unique_constraint(
        op.f("deliveries_batch_id_endpoint_id_event_key"),
        "deliveries",
        ["batch_id", "endpoint_id", "event"],
    )
    op.drop_index("deliveries_tests_idx", table_name="deliveries")
    op.create_index(
        "deliveries_tests_idx",
        "deliveries",
        ["created_at"],
        postgresql_where=sa.text("job_id IS NULL AND batch_id IS NULL"),
    )


# The whole table this once; nothing else writes while a migration runs.
_SUM_UP = """
INSERT INTO usage_days (owner_id, day, engine, reserved_ms, succeeded, failed, canceled, video_ms,
                        render_seconds)
SELECT owner_id, day, engine, sum(reserved_ms), sum(succeeded), sum(failed), sum(canceled),
       sum(video_ms), sum(render_seconds)
FROM (
    SELECT owner_id, (created_at AT TIME ZONE 'UTC')::date AS day, engine,
           CASE WHEN status IN ('failed', 'canceled') THEN 0 ELSE clip.ms END AS reserved_ms,
           0 AS succeeded, 0 AS failed, 0 AS canceled, 0::bigint AS video_ms,
           0::float8 AS render_seconds
    FROM jobs CROSS JOIN LATERAL (SELECT ceil((parameters ->> 'num_frames')::numeric * 1000
        / (parameters ->> 'fps')::numeric)::bigint AS ms) AS clip
    UNION ALL
    SELECT owner_id, (finished_at AT TIME ZONE 'UTC')::date, engine, 0,
           (status = 'succeeded')::int, (status = 'failed')::int, (status = 'canceled')::int,
           CASE WHEN status = 'succeeded' THEN clip.ms ELSE 0 END,
           coalesce((metrics ->> 'render_seconds')::float8, 0)
    FROM jobs CROSS JOIN LATERAL (SELECT ceil((parameters ->> 'num_frames')::numeric * 1000
        / (parameters ->> 'fps')::numeric)::bigint AS ms) AS clip
    WHERE finished_at IS NOT NULL
) AS told GROUP BY owner_id, day, engine
"""


def downgrade() -> None:
    op.drop_table("pauses")
    op.drop_table("usage_days")
    op.execute("DELETE FROM deliveries WHERE batch_id IS NOT NULL")
    op.drop_index("deliveries_tests_idx", table_name="deliveries")
    op.create_index(
        "deliveries_tests_idx",
        "deliveries",
        ["created_at"],
        postgresql_where=sa.text("job_id IS NULL"),
    )
    op.drop_column("deliveries", "batch_id")
    op.drop_column("jobs", "batch_position")
    op.drop_index("batches_finished_idx", table_name="batches")
    op.drop_index("batches_owner_idx", table_name="batches")
    op.drop_constraint(op.f("batches_counts_check"), "batches")
    for name in ("finished_at", *_COUNTS, "webhook_url"):
        op.drop_column("batches", name)
    for name in ("daily_seconds", "is_read_only", "models"):
        op.drop_column("api_keys", name)
