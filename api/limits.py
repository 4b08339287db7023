"""How long a gateway waits and how much it holds, at most: one value, passed in when it is built.

A limit that no test and no process needs to change is defined where it is used.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from api.auth import key_cache
from api.concurrency import job_waiters, known_jobs, owner_feeds, thread_pools
from api.monitoring import readiness
from shared import bell, db
from shared.jobs import listing, news


@dataclass(frozen=True, kw_only=True)
class GatewayLimits:
    """The shipped values: whatever is down or frozen, a client gets an answer within 5 s."""

    database: timedelta = timedelta(seconds=3)
    """Each use of a connection, except for finding the caller."""

    database_patience_seconds: int = db.PATIENCE_SECONDS
    keys: timedelta = timedelta(seconds=2)
    """Each use of a connection that finds the caller: keys, sessions and logins."""

    keys_patience_seconds: float = key_cache.PATIENCE_SECONDS
    lane_seconds: float = thread_pools.PATIENCE_SECONDS
    database_lane_seconds: float = thread_pools.DATABASE_PATIENCE_SECONDS
    poll_seconds: float = known_jobs.PATIENCE_SECONDS

    storage_read: timedelta = timedelta(seconds=5)
    url_check: timedelta = timedelta(seconds=5)
    image_fetch: timedelta = timedelta(seconds=15)
    """The whole fetch with its redirects; it holds a thread and MAX_UPLOAD_BYTES for this time."""

    census_fresh: timedelta = timedelta(seconds=5)
    """How old the figures of `/metrics` may be; `census` is how long a scrape waits for newer."""

    census: timedelta = timedelta(seconds=2)
    part_fresh: timedelta = readiness.FRESH
    """How old the state of a part of `/readyz` may be; `part` is how long a request waits."""

    part: timedelta = readiness.PATIENCE
    redis_probe_seconds: float = readiness.REDIS_SECONDS
    redis_seconds: float = bell.SOCKET_SECONDS
    """For bells, announcements and previews, which may all be lost."""

    floor: timedelta = job_waiters.FLOOR
    silent_seconds: float = 15.0
    """How long a stream is silent, and how long a revoked key goes on in a stream."""

    most_news: int = owner_feeds.MOST_NEWS
    newest: int = news.NEWEST
    searched: int = listing.SEARCHED


SHIPPED: Final = GatewayLimits()
