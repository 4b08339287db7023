"""Who has access: keys, owners, sessions."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY

from shared.tables.columns import id_column, metadata, time_column

api_keys = Table(
    "api_keys",
    metadata,
    id_column(),
    Column("name", Text, nullable=False, unique=True),
    Column("prefix", Text, nullable=False, unique=True),
    Column("key_sha256", Text, nullable=False),
    Column("is_admin", Boolean, nullable=False, server_default=text("false")),
    Column("max_queued", Integer),
    Column("max_running", Integer),
    # NULL is every model, and no limit.
    Column("models", ARRAY(Text)),
    Column("is_read_only", Boolean, nullable=False, server_default=text("false")),
    Column("daily_seconds", Integer),
    # Dollars for hosted models; NULL is the settings' own limit.
    Column("daily_usd", Double),
    time_column("created_at", now=True),
    time_column("last_used_at"),
    time_column("revoked_at"),
    # The hash that a rotation replaced, while both work; the keeper removes it.
    Column("previous_sha256", Text),
    time_column("previous_works_until"),
    time_column("rotated_at"),
)

owners = Table(
    "owners",
    metadata,
    id_column(),
    # NULL except for an owner from a login proxy.
    Column("login", Text, unique=True),
    # Links that contain a lower number open nothing.
    Column("link_epoch", BigInteger, nullable=False, server_default=text("0")),
    time_column("created_at", now=True),
)

sessions = Table(
    "sessions",
    metadata,
    Column("token_sha256", Text, primary_key=True),
    # NULL for the ADMIN_KEY of the settings.
    Column("key_id", Uuid, ForeignKey("api_keys.id", ondelete="CASCADE")),
    # Tells whether the key still has the secret that the session was made with.
    Column("key_mark", Text, nullable=False),
    time_column("created_at", now=True),
    time_column("expires_at", null=False),
    Index("sessions_key_id_idx", "key_id"),
    Index("sessions_expires_at_idx", "expires_at"),
)
