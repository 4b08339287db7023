"""Totals keep growing when rows are purged, and no scrape reads whole tables."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from shared.engines.registry import EngineRegistry
from shared.jobs.job import Artifact, Job, Result, Variant
from shared.jobs.transitions import Claim
from shared.owners import ANONYMOUS
from shared.tallies import Tallies
from tests.support.factory import JobFixture
from tests.support.stack import Stack
from worker.keeper.purge import Purger

LATELY = timedelta(minutes=2)
VIDEO = Artifact(key="videos/x/1.mp4", content_type="video/mp4", bytes=1, sha256="0")


@pytest.fixture
def job_fixture(stack: Stack) -> Iterator[JobFixture]:
    desk = JobFixture(stack.settings())
    yield desk
    desk.close()


@pytest.fixture
def tallies(job_fixture: JobFixture) -> Tallies:
    return Tallies(job_fixture.db)


def completed(job_fixture: JobFixture, seconds: float) -> Job:
    job_fixture.submit(
        webhook_url="https://cms.example.org/hook", webhook_event_types=["job.succeeded"]
    )
    job = job_fixture.jobs.claim(["noop"], worker="w#1")
    assert job is not None
    result = Result(ai_generated=False, artifacts={Variant.VIDEO: VIDEO})
    return job_fixture.jobs.complete(
        Claim(job.id, job.attempt), result, {"render_seconds": seconds}
    )


def later(job_fixture: JobFixture, by: timedelta = LATELY) -> None:
    """Make all times that the tallies read this much older."""
    job_fixture.run("UPDATE jobs SET finished_at = finished_at - :by", by=by)
    job_fixture.run("UPDATE tally_marks SET until_at = until_at - :by", by=by)


def tried(job_fixture: JobFixture, *errors: str | None) -> None:
    for error in errors:
        job_fixture.run(
            "INSERT INTO delivery_attempts (delivery_id, latency_ms, error)"
            " SELECT id, 1, :error FROM deliveries LIMIT 1",
            error=error,
        )


def ended(tallies: Tallies) -> dict[str, tuple[int, float]]:
    return {each.status: (each.count, each.seconds) for each in tallies.jobs()}


def test_what_ended_is_told_at_once_and_counted_once(
    job_fixture: JobFixture, tallies: Tallies
) -> None:
    completed(job_fixture, 1.5)
    assert ended(tallies) == {"succeeded": (1, 1.5)}
    later(job_fixture)
    for _ in range(3):
        tallies.count()
        assert ended(tallies) == {"succeeded": (1, 1.5)}
    completed(job_fixture, 2.0)
    job_fixture.jobs.cancel(job_fixture.submit().id, owner_id=ANONYMOUS)
    for _ in range(3):
        assert ended(tallies) == {"succeeded": (2, 3.5), "canceled": (1, 0.0)}
        later(job_fixture)
        tallies.count()


def test_what_may_still_be_committed_is_not_counted_yet(
    job_fixture: JobFixture, tallies: Tallies
) -> None:
    job_fixture.run("UPDATE tally_marks SET until_at = until_at - interval '1 hour'")
    assert not tallies.count()
    # This job looks as if it had ended before the count and was committed after it.
    completed(job_fixture, 1.0)
    job_fixture.run("UPDATE jobs SET finished_at = finished_at - interval '50 s'")
    assert ended(tallies) == {"succeeded": (1, 1.0)}
    later(job_fixture)
    tallies.count()
    assert ended(tallies) == {"succeeded": (1, 1.0)}


def test_a_purge_takes_nothing_from_the_figures(job_fixture: JobFixture, tallies: Tallies) -> None:
    completed(job_fixture, 1.5)
    tried(job_fixture, None, "answered 500", "answered 500")
    for _ in range(3):
        later(job_fixture)
        tallies.count()
    before = (ended(tallies), tallies.tries())
    assert before == ({"succeeded": (1, 1.5)}, {"delivered": 1, "failed": 2})
    job_fixture.run("UPDATE deliveries SET status = 'delivered', next_at = NULL")
    job_fixture.run(
        "UPDATE jobs SET sweep_at = NULL, finished_at = finished_at - interval '1 year',"
        " expired_at = clock_timestamp() - interval '1 year'"
    )
    assert Purger(job_fixture.db, job_fixture.settings).purge() == 1
    assert job_fixture.run("SELECT FROM delivery_attempts") == []
    assert (ended(tallies), tallies.tries()) == before


def test_tries_are_told_at_once_and_counted_once(
    job_fixture: JobFixture, tallies: Tallies
) -> None:
    completed(job_fixture, 1.0)
    tried(job_fixture, None, "no answer")
    for _ in range(4):
        assert tallies.tries() == {"delivered": 1, "failed": 1}
        later(job_fixture)
        tallies.count()
    tried(job_fixture, "no answer")
    assert tallies.tries() == {"delivered": 1, "failed": 2}


def test_a_try_committed_after_a_later_one_is_counted(
    job_fixture: JobFixture, tallies: Tallies
) -> None:
    """Ids are drawn in order but committed in any: a mark at the newest id would skip one."""
    completed(job_fixture, 1.0)
    later(job_fixture)
    with job_fixture.db.begin() as slow:
        slow.exec_driver_sql(
            "INSERT INTO delivery_attempts (delivery_id, latency_ms) SELECT id, 1 FROM deliveries"
        )
        tried(job_fixture, "no answer")
        for _ in range(2):
            tallies.count()
    assert tallies.tries() == {"delivered": 1, "failed": 1}
    for _ in range(2):
        later(job_fixture)
        tallies.count()
    assert tallies.tries() == {"delivered": 1, "failed": 1}


def test_two_keepers_count_a_try_once(job_fixture: JobFixture, tallies: Tallies) -> None:
    completed(job_fixture, 1.0)
    later(job_fixture)
    tried(job_fixture, None)
    for _ in range(5):
        # All these counts are within a minute of the first.
        tallies.count()
    assert tallies.tries() == {"delivered": 1}
    later(job_fixture)
    for _ in range(5):
        tallies.count()
    assert tallies.tries() == {"delivered": 1}


def test_an_outage_of_the_keeper_is_counted_day_by_day(
    job_fixture: JobFixture, tallies: Tallies
) -> None:
    job_fixture.run("UPDATE tally_marks SET until_at = until_at - interval '3 days 1 hour'")
    for days in range(4):
        completed(job_fixture, 1.0)
        job_fixture.run(
            "UPDATE jobs SET finished_at = finished_at - make_interval(days => :days, mins => 5)"
            " WHERE finished_at > clock_timestamp() - interval '4 minutes'",
            days=days,
        )
    assert [tallies.count() for _ in range(4)] == [True, True, True, False]
    assert job_fixture.run("SELECT sum(count) AS n FROM tallies")[0]["n"] == 4
    assert ended(tallies) == {"succeeded": (4, 4.0)}


def test_figures_cost_the_same_however_many_jobs_have_ended(
    job_fixture: JobFixture, tallies: Tallies
) -> None:
    """The cost is the number of rows read, with a history a hundred times as long."""
    completed(job_fixture, 1.0)
    job_fixture.run("UPDATE deliveries SET status = 'delivered', next_at = NULL")
    few = rows_read(job_fixture, tallies)
    copies(job_fixture, 3000)
    later(job_fixture, timedelta(hours=1))
    tallies.count()
    job_fixture.run("ANALYZE")
    many = rows_read(job_fixture, tallies)
    assert sum(each.count for each in tallies.jobs()) == 3001
    # The time of a render is computed from the newest 500 jobs.
    assert many <= few + 600, (few, many)


def copies(job_fixture: JobFixture, count: int) -> None:
    """Copy the one ended job, its delivery and a try of it, this many times."""
    (columns,) = job_fixture.run(
        "SELECT string_agg(column_name, ',') AS names FROM information_schema.columns"
        " WHERE table_name = 'jobs' AND column_name <> 'id'"
    )
    names = columns["names"]
    job_fixture.run(
        f"INSERT INTO jobs (id, {names}) SELECT gen_random_uuid(), {names}"  # noqa: S608
        " FROM jobs, generate_series(1, :count)",
        count=count,
    )
    job_fixture.run(
        "INSERT INTO deliveries (id, owner_id, job_id, endpoint_id, event, url, status)"
        " SELECT gen_random_uuid(), j.owner_id, j.id, d.endpoint_id, d.event, d.url, 'delivered'"
        " FROM jobs j, deliveries d ON CONFLICT DO NOTHING"
    )
    job_fixture.run(
        "INSERT INTO delivery_attempts (delivery_id, latency_ms) SELECT id, 1 FROM deliveries"
    )
    job_fixture.run(
        "UPDATE tally_marks SET until_at = clock_timestamp() - interval '1 hour',"
        " seen_id = (SELECT max(id) FROM delivery_attempts)"
    )


def rows_read(job_fixture: JobFixture, tallies: Tallies) -> int:
    """Return how many rows a scrape reads from the tables that grow."""
    before = _read(job_fixture)
    tallies.jobs(), tallies.tries(), tallies.deliveries()
    job_fixture.queries.live_counts()
    job_fixture.queries.queue("noop")
    EngineRegistry(job_fixture.db).live_workers()
    return _read(job_fixture) - before


def _read(job_fixture: JobFixture) -> int:
    job_fixture.run("SELECT pg_stat_force_next_flush()")
    (row,) = job_fixture.run(
        "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) AS n FROM pg_stat_user_tables"
        " WHERE relname IN ('jobs', 'deliveries', 'delivery_attempts')"
    )
    return int(row["n"])
