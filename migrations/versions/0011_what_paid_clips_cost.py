"""What clips of paid providers cost, and what of a day's limit they take.

Revision ID: 0011
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0011"
down_revision: str | None = "0010"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_SUMS = ("reserved_micros", "cost_micros")


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("daily_usd", sa.Double()))
    op.add_column("jobs", sa.Column("price_micros", sa.BigInteger()))
    for name in _SUMS:
        op.add_column(
            "usage_days",
            sa.Column(name, sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        )

    op.create_index(
        "usage_days_paid_idx", "usage_days", ["day"], postgresql_where=sa.text("cost_micros > 0")
    )


def downgrade() -> None:
    op.drop_index("usage_days_paid_idx", table_name="usage_days")
    for name in _SUMS:
        op.drop_column("usage_days", name)
    op.drop_column("jobs", "price_micros")
    op.drop_column("api_keys", "daily_usd")
