"""Claims of deliveries by receiver.

Revision ID: 0015
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0015"
down_revision: str | None = "0014"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.create_index(
            "deliveries_receiver_idx",
            "deliveries",
            ["endpoint_id", sa.text("(round_tries > 0)"), "next_at"],
            unique=False,
            postgresql_where=sa.text("next_at IS NOT NULL"),
            postgresql_concurrently=True,
        )


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_index(
            "deliveries_receiver_idx",
            table_name="deliveries",
            postgresql_where=sa.text("next_at IS NOT NULL"),
            postgresql_concurrently=True,
        )
