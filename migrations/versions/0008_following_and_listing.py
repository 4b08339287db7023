"""Following and listing an owner's jobs, and what was expected of each.

Revision ID: 0008
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0008"
down_revision: str | None = "0007"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_INDEXES = (
    ("jobs_owner_status_idx", ["owner_id", "status", "id"], "deleted_at IS NULL"),
    ("jobs_owner_engine_idx", ["owner_id", "engine", "status", "id"], "deleted_at IS NULL"),
    ("jobs_owner_finished_idx", ["owner_id", "finished_at", "id"], "finished_at IS NOT NULL"),
    ("jobs_owner_deleted_idx", ["owner_id", "deleted_at", "id"], "deleted_at IS NOT NULL"),
)


def upgrade() -> None:
    op.add_column("jobs", sa.Column("expected_seconds", sa.Double(), nullable=True))
    for name, columns, where in _INDEXES:
        op.create_index(name, "jobs", columns, postgresql_where=sa.text(where))


def downgrade() -> None:
    for name, _, _ in reversed(_INDEXES):
        op.drop_index(name, table_name="jobs")
    op.drop_column("jobs", "expected_seconds")
