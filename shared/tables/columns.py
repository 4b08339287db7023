"""Parts that the tables share: the names of constraints, and common columns."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Column, DateTime, MetaData, Uuid, func, text
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    }
)


def time_column(name: str, *, now: bool = False, null: bool = True) -> Column[datetime]:
    default = func.clock_timestamp() if now else None
    return Column(name, DateTime(timezone=True), nullable=null and not now, server_default=default)


def json_column(name: str) -> Column[Any]:
    return Column(name, JSONB, nullable=False, server_default=text("'{}'"))


def id_column() -> Column[UUID]:
    return Column("id", Uuid, primary_key=True)


def owner_column() -> Column[UUID]:
    return Column("owner_id", Uuid, nullable=False)
