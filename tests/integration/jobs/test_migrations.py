"""The migrations make exactly the tables of `shared/tables.py`, and can be undone."""

from collections.abc import Iterator

import pytest
from psycopg import sql
from pytest_alembic.config import Config
from pytest_alembic.tests import (
    test_model_definitions_match_ddl,
    test_single_head_revision,
    test_up_down_consistency,
    test_upgrade,
)
from sqlalchemy import Engine, create_engine

from tests.support.stack import ROOT, Stack, connect

__all__ = [
    "test_model_definitions_match_ddl",
    "test_single_head_revision",
    "test_up_down_consistency",
    "test_upgrade",
]


@pytest.fixture
def alembic_config() -> Config:
    return Config(
        config_options={
            "script_location": str(ROOT / "alembic"),
            "version_locations": str(ROOT / "migrations" / "versions"),
            "path_separator": "newline",
        }
    )


@pytest.fixture
def alembic_engine(stack: Stack) -> Iterator[Engine]:
    """An empty database beside the migrated one."""
    name = f"{stack.database}_empty"
    with connect(stack.servers.state) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    url = stack.settings().database_url.get_secret_value()
    engine = create_engine(url.replace(stack.database, name))
    yield engine
    engine.dispose()
    with connect(stack.servers.state) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
