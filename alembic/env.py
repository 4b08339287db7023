"""Run the migrations on the database of the settings, one migrator at a time."""

import sys
from logging.config import dictConfig

from alembic import context
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, pool, text
from sqlalchemy.exc import OperationalError

from shared.settings import read_settings
from shared.tables.columns import metadata

MIGRATION_LOCK = 7_860_001  # Two gateways started at once must not both migrate.
REFUSED = 2
"""The exit status that says: another start would end the same way."""


def connect() -> Connection:
    """Connect to the database of the settings, or end with one sentence that says why not."""
    url = read_settings().database_url.get_secret_value()
    try:
        return create_engine(url, poolclass=pool.NullPool).connect()
    except OperationalError as error:
        sys.exit(f"the database of STILLREEL_DATABASE_URL did not answer: {_first_line(error)}")


def run(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata, compare_server_default=True)
    with context.begin_transaction():
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
        refuse_newer()
        context.run_migrations()


def refuse_newer() -> None:
    """End where a newer version has migrated this database: there is no way back."""
    known = {it.revision for it in ScriptDirectory.from_config(context.config).walk_revisions()}
    unknown = set(context.get_context().get_current_heads()) - known
    if unknown:
        sys.stderr.write(
            "the database was used by a newer version of Stillreel (this one does not know its"
            f" migration {', '.join(sorted(unknown))}); start that version again, or restore the"
            " backup from before the upgrade\n"
        )
        sys.exit(REFUSED)


def _first_line(error: OperationalError) -> str:
    return str(error.orig).strip().partition("\n")[0]


dictConfig({"version": 1, "disable_existing_loggers": False})
given: Engine | None = context.config.attributes.get("connection")
with given.connect() if given else connect() as connection:
    run(connection)
