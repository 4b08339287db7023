"""Inputs are rows, jobs say what they need of a worker, uploads have a kind.

Revision ID: 0007
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0007"
down_revision: str | None = "0006"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "inputs",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=True),
        sa.Column("height", sa.Integer(), nullable=True),
        sa.CheckConstraint("kind IN ('image', 'audio', 'video')", name=op.f("inputs_kind_check")),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("inputs_job_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", "name", name=op.f("inputs_pkey")),
        sa.UniqueConstraint("key", name=op.f("inputs_key_key")),
    )
    op.execute("""
        INSERT INTO inputs (job_id, name, kind, key, sha256, width, height)
        SELECT id, 'image', 'image', 'inputs/' || replace(id::text, '-', '') || '.png',
               image_sha256, image_width, image_height
        FROM jobs
    """)
    op.add_column(
        "jobs",
        sa.Column("needs", sa.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
    )
    op.add_column(
        "uploads",
        sa.Column("kind", sa.Text(), server_default=sa.text("'image'"), nullable=False),
    )
    op.create_index("uploads_owner_idx", "uploads", ["owner_id", "id"])


def downgrade() -> None:
    op.drop_index("uploads_owner_idx", table_name="uploads")
    op.drop_column("uploads", "kind")
    op.drop_column("jobs", "needs")
    op.drop_table("inputs")
