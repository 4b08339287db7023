"""Headers of a batch's webhook, sealed.

Revision ID: 0014
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0014"
down_revision: str | None = "0013"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("batches", sa.Column("webhook_headers", sa.Text()))


def downgrade() -> None:
    op.drop_column("batches", "webhook_headers")
