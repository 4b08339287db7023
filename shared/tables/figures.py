"""Figures that outlive the rows that they were counted from, and the row that readiness writes."""

from sqlalchemy import BigInteger, Column, Date, Double, Index, Table, Text, Uuid, text

from shared.tables.columns import metadata, time_column

# Counts of all that has ended: rows are purged, but the figures of a scrape may only grow.
# `engine` is empty if the outcome is a webhook's.
tallies = Table(
    "tallies",
    metadata,
    Column("name", Text, primary_key=True),
    Column("engine", Text, primary_key=True),
    Column("outcome", Text, primary_key=True),
    Column("count", BigInteger, nullable=False),
    Column("seconds", Double, nullable=False, server_default=text("0")),
)

# How far the counting is: jobs that ended before `until_at`, tries up to `until_id`. `seen_id` was
# the newest try at the last look.
tally_marks = Table(
    "tally_marks",
    metadata,
    Column("name", Text, primary_key=True),
    time_column("until_at", now=True),
    Column("until_id", BigInteger, nullable=False, server_default=text("0")),
    Column("seen_id", BigInteger, nullable=False, server_default=text("0")),
)

# What each owner asked for and received, by UTC day and engine. `reserved_ms` is that of the clips
# submitted that day, except those that failed or were canceled; a key's daily limit is compared
# with it. The other figures count on the day of the end.
usage_days = Table(
    "usage_days",
    metadata,
    Column("owner_id", Uuid, primary_key=True),
    Column("day", Date, primary_key=True),
    Column("engine", Text, primary_key=True),
    Column("reserved_ms", BigInteger, nullable=False, server_default=text("0")),
    Column("succeeded", BigInteger, nullable=False, server_default=text("0")),
    Column("failed", BigInteger, nullable=False, server_default=text("0")),
    Column("canceled", BigInteger, nullable=False, server_default=text("0")),
    Column("video_ms", BigInteger, nullable=False, server_default=text("0")),
    Column("render_seconds", Double, nullable=False, server_default=text("0")),
    # For paid providers, in millionths of a dollar, like the two values of milliseconds.
    Column("reserved_micros", BigInteger, nullable=False, server_default=text("0")),
    Column("cost_micros", BigInteger, nullable=False, server_default=text("0")),
    Index("usage_days_paid_idx", "day", postgresql_where=text("cost_micros > 0")),
    postgresql_with={"fillfactor": "70"},
)

# What /readyz writes to find out whether Postgres takes a write.
probes = Table(
    "probes",
    metadata,
    Column("name", Text, primary_key=True),
    time_column("at", now=True),
    postgresql_with={"fillfactor": "70"},
)
