"""The migrations make exactly the tables of `shared/tables/`, and can be undone."""

from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID

import pytest
from psycopg import sql
from pytest_alembic import MigrationContext
from pytest_alembic.config import Config
from pytest_alembic.plugin.fixtures import alembic_runner
from pytest_alembic.tests import (
    test_model_definitions_match_ddl,
    test_single_head_revision,
    test_up_down_consistency,
    test_upgrade,
)
from sqlalchemy import Engine, create_engine, text

from shared.jobs.storage_keys import input_key
from tests.support.servers import connect
from tests.support.stack import ROOT, Stack

__all__ = [
    "alembic_runner",
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


def test_the_image_of_an_older_job_becomes_a_row(
    alembic_runner: MigrationContext, alembic_engine: Engine
) -> None:
    job_id = UUID(int=7)
    alembic_runner.migrate_up_before("0007")
    alembic_runner.insert_into(
        "jobs",
        {
            "id": job_id,
            "owner_id": UUID(int=0),
            "status": "queued",
            "engine": "camera",
            "engine_revision": "1",
            "parameters": {},
            "priority": "normal",
            "image_sha256": "abc",
            "image_width": 64,
            "image_height": 48,
            "source": "api",
            "claim_at": datetime.now(UTC),
            "due_at": datetime.now(UTC),
            "retain_seconds": 60,
        },
    )
    alembic_runner.migrate_up_one()
    with alembic_engine.connect() as connection:
        rows = connection.execute(text("SELECT * FROM inputs")).all()
    assert rows == [(job_id, "image", "image", input_key(job_id), "abc", 64, 48)]
