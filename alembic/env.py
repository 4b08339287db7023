"""Run the migrations on the database of the settings, one migrator at a time."""

from logging.config import dictConfig

from alembic import context
from sqlalchemy import Connection, Engine, create_engine, pool, text

from shared.settings import read_settings
from shared.tables import metadata

MIGRATION_LOCK = 7_860_001  # Two gateways started at once must not both migrate.


def run(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata, compare_server_default=True)
    with context.begin_transaction():
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
        context.run_migrations()


dictConfig({"version": 1, "disable_existing_loggers": False})
given: Engine | None = context.config.attributes.get("connection")
url = read_settings().database_url.get_secret_value()
with (given or create_engine(url, poolclass=pool.NullPool)).connect() as connection:
    run(connection)
