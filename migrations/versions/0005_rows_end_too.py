"""Rows end too: what the purge, its figures and /readyz need.

Revision ID: 0005
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_NOW = sa.text("clock_timestamp()")
_TIME = sa.DateTime(timezone=True)

_INDEXES = (
    ("jobs_ended_idx", "jobs", "finished_at", "finished_at IS NOT NULL"),
    ("jobs_expired_idx", "jobs", "expired_at", "expired_at IS NOT NULL AND sweep_at IS NULL"),
    ("jobs_to_blank_idx", "jobs", "deleted_at", "deleted_at IS NOT NULL AND blanked_at IS NULL"),
    ("deliveries_dead_idx", "deliveries", "id", "status = 'dead'"),
    ("deliveries_tests_idx", "deliveries", "created_at", "job_id IS NULL"),
)


def upgrade() -> None:
    op.create_table(
        "probes",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("at", _TIME, server_default=_NOW, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("probes_pkey")),
        postgresql_with={"fillfactor": "70"},
    )
    op.create_table(
        "tallies",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("engine", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("name", "engine", "outcome", name=op.f("tallies_pkey")),
    )
    op.create_table(
        "tally_marks",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("until_at", _TIME, server_default=_NOW, nullable=False),
        sa.Column("until_id", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("seen_id", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("tally_marks_pkey")),
    )
    op.add_column("jobs", sa.Column("blanked_at", _TIME, nullable=True))
    # From now on this is also when a deleted job's files were gone for good.
    op.execute(
        "UPDATE jobs SET expired_at = deleted_at"
        " WHERE deleted_at IS NOT NULL AND sweep_at IS NULL AND expired_at IS NULL"
    )
    for name, table, column, where in _INDEXES:
        op.create_index(name, table, [column], postgresql_where=sa.text(where))
    _count_what_ended()


def _count_what_ended() -> None:
    """Count the whole tables this once; nothing else writes while a migration runs."""
    op.execute("""
        INSERT INTO tallies (name, engine, outcome, count, seconds)
        SELECT 'jobs', engine, status, count(*),
               coalesce(sum((metrics ->> 'render_seconds')::float8), 0)
        FROM jobs WHERE finished_at IS NOT NULL GROUP BY engine, status
    """)
    op.execute("INSERT INTO tally_marks (name) VALUES ('jobs')")
    op.execute("""
        INSERT INTO tallies (name, engine, outcome, count)
        SELECT 'tries', '', CASE WHEN error IS NULL THEN 'delivered' ELSE 'failed' END, count(*)
        FROM delivery_attempts GROUP BY error IS NULL
    """)
    op.execute("""
        INSERT INTO tally_marks (name, until_id, seen_id)
        SELECT 'tries', coalesce(max(id), 0), coalesce(max(id), 0) FROM delivery_attempts
    """)


def downgrade() -> None:
    for name, table, _, _ in reversed(_INDEXES):
        op.drop_index(name, table_name=table)
    op.drop_column("jobs", "blanked_at")
    for table in ("tally_marks", "tallies", "probes"):
        op.drop_table(table)
