"""What signed links, sessions, login proxies and the headers of webhooks need.

Revision ID: 0006
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_NOW = sa.text("clock_timestamp()")
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "owners",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("login", sa.Text(), nullable=True),
        sa.Column("link_epoch", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("created_at", _TIME, server_default=_NOW, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("owners_pkey")),
        sa.UniqueConstraint("login", name=op.f("owners_login_key")),
    )
    op.create_table(
        "sessions",
        sa.Column("token_sha256", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Uuid(), nullable=True),
        sa.Column("key_mark", sa.Text(), nullable=False),
        sa.Column("created_at", _TIME, server_default=_NOW, nullable=False),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["key_id"], ["api_keys.id"], name=op.f("sessions_key_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("token_sha256", name=op.f("sessions_pkey")),
    )
    op.create_index("sessions_key_id_idx", "sessions", ["key_id"])
    op.create_index("sessions_expires_at_idx", "sessions", ["expires_at"])
    op.add_column("jobs", sa.Column("webhook_headers", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("jobs", "webhook_headers")
    op.drop_table("sessions")
    op.drop_table("owners")
