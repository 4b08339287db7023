"""A key's rotation: the hash it had before works a while beside the new one.

Revision ID: 0004
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("previous_sha256", sa.Text(), nullable=True))
    op.add_column("api_keys", sa.Column("previous_works_until", _TIME, nullable=True))
    op.add_column("api_keys", sa.Column("rotated_at", _TIME, nullable=True))


def downgrade() -> None:
    for name in ("rotated_at", "previous_works_until", "previous_sha256"):
        op.drop_column("api_keys", name)
