"""Previews while a clip is rendered, and what the loads of models took.

Revision ID: 0012
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0012"
down_revision: str | None = "0011"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("preview_step", sa.Integer()))
    op.add_column(
        "workers",
        sa.Column("load_seconds", sa.Double(), server_default=sa.text("0"), nullable=False),
    )


def downgrade() -> None:
    op.drop_column("workers", "load_seconds")
    op.drop_column("jobs", "preview_step")
