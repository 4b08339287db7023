"""Workers, the engines that they offer, and which of these engines are paused."""

from sqlalchemy import BigInteger, Column, Double, Integer, Table, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from shared.tables.columns import metadata, time_column

workers = Table(
    "workers",
    metadata,
    Column("name", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("device", Text, nullable=False),
    Column("device_name", Text),
    Column("vram_bytes", BigInteger),
    # The free space where clips are made; NULL if the worker does not report it.
    Column("free_bytes", BigInteger),
    Column("engines", ARRAY(Text), nullable=False),
    Column("resident_engine", Text),
    Column("state", Text, nullable=False),
    Column("model_loads", BigInteger, nullable=False, server_default=text("0")),
    # The time of these loads, including the unloading of the previous model.
    Column("load_seconds", Double, nullable=False, server_default=text("0")),
    # Engine -> the state of its weights there.
    Column("weights", JSONB, nullable=False, server_default=text("'{}'")),
    time_column("started_at", now=True),
    time_column("beat_at", now=True),
    postgresql_with={"fillfactor": "70"},
)

engines = Table(
    "engines",
    metadata,
    Column("name", Text, primary_key=True),
    Column("spec", JSONB, nullable=False),
    Column("rank", Integer, nullable=False, server_default=text("0")),
    time_column("updated_at", now=True),
)

# Engines whose jobs wait until an admin resumes them; an empty name means every engine.
pauses = Table(
    "pauses",
    metadata,
    Column("engine", Text, primary_key=True),
    Column("reason", Text),
    time_column("since", now=True),
)
