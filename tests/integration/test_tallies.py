"""Figures go on growing when rows are purged, and no scrape reads whole tables."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from shared.fleet import Fleet
from shared.job import Artifact, Job, Result, Variant
from shared.jobs import Claim
from shared.tables import ANONYMOUS
from shared.tallies import Tallies
from tests.factory import Desk
from tests.stack import Stack
from worker.purge import Purger

LATELY = timedelta(minutes=2)
VIDEO = Artifact(key="videos/x/1.mp4", content_type="video/mp4", bytes=1, sha256="0")


@pytest.fixture
def desk(stack: Stack) -> Iterator[Desk]:
    desk = Desk(stack.settings())
    yield desk
    desk.close()


@pytest.fixture
def tallies(desk: Desk) -> Tallies:
    return Tallies(desk.db)


def completed(desk: Desk, seconds: float) -> Job:
    desk.submit(webhook_url="https://cms.example.org/hook", webhook_event_types=["job.succeeded"])
    job = desk.jobs.claim(["noop"], worker="w#1")
    assert job is not None
    result = Result(ai_generated=False, artifacts={Variant.VIDEO: VIDEO})
    return desk.jobs.complete(Claim(job.id, job.attempt), result, {"render_seconds": seconds})


def later(desk: Desk, by: timedelta = LATELY) -> None:
    """Let time pass for what the tallies look at."""
    desk.run("UPDATE jobs SET finished_at = finished_at - :by", by=by)
    desk.run("UPDATE tally_marks SET until_at = until_at - :by", by=by)


def tried(desk: Desk, *errors: str | None) -> None:
    for error in errors:
        desk.run(
            "INSERT INTO delivery_attempts (delivery_id, latency_ms, error)"
            " SELECT id, 1, :error FROM deliveries LIMIT 1",
            error=error,
        )


def ended(tallies: Tallies) -> dict[str, tuple[int, float]]:
    return {each.status: (each.count, each.seconds) for each in tallies.jobs()}


def test_what_ended_is_told_at_once_and_counted_once(desk: Desk, tallies: Tallies) -> None:
    completed(desk, 1.5)
    assert ended(tallies) == {"succeeded": (1, 1.5)}
    later(desk)
    for _ in range(3):
        tallies.count()
        assert ended(tallies) == {"succeeded": (1, 1.5)}
    completed(desk, 2.0)
    desk.jobs.cancel(desk.submit().id, owner_id=ANONYMOUS)
    for _ in range(3):
        assert ended(tallies) == {"succeeded": (2, 3.5), "canceled": (1, 0.0)}
        later(desk)
        tallies.count()


def test_what_may_still_be_committed_is_not_counted_yet(desk: Desk, tallies: Tallies) -> None:
    desk.run("UPDATE tally_marks SET until_at = until_at - interval '1 hour'")
    assert not tallies.count()
    completed(desk, 1.0)  # As if it had ended before the count, and was committed after it.
    desk.run("UPDATE jobs SET finished_at = finished_at - interval '50 s'")
    assert ended(tallies) == {"succeeded": (1, 1.0)}
    later(desk)
    tallies.count()
    assert ended(tallies) == {"succeeded": (1, 1.0)}


def test_a_purge_takes_nothing_from_the_figures(desk: Desk, tallies: Tallies) -> None:
    completed(desk, 1.5)
    tried(desk, None, "answered 500", "answered 500")
    for _ in range(3):
        later(desk)
        tallies.count()
    before = (ended(tallies), tallies.tries())
    assert before == ({"succeeded": (1, 1.5)}, {"delivered": 1, "failed": 2})
    desk.run("UPDATE deliveries SET status = 'delivered', next_at = NULL")
    desk.run(
        "UPDATE jobs SET sweep_at = NULL, finished_at = finished_at - interval '1 year',"
        " expired_at = clock_timestamp() - interval '1 year'"
    )
    assert Purger(desk.db, desk.settings).purge() == 1
    assert desk.run("SELECT FROM delivery_attempts") == []
    assert (ended(tallies), tallies.tries()) == before


def test_tries_are_told_at_once_and_counted_once(desk: Desk, tallies: Tallies) -> None:
    completed(desk, 1.0)
    tried(desk, None, "no answer")
    for _ in range(4):
        assert tallies.tries() == {"delivered": 1, "failed": 1}
        later(desk)
        tallies.count()
    tried(desk, "no answer")
    assert tallies.tries() == {"delivered": 1, "failed": 2}


def test_a_try_committed_after_a_later_one_is_counted(desk: Desk, tallies: Tallies) -> None:
    """Ids are drawn in order and committed in any: a mark at the newest would pass one by."""
    completed(desk, 1.0)
    later(desk)
    with desk.db.begin() as slow:
        slow.exec_driver_sql(
            "INSERT INTO delivery_attempts (delivery_id, latency_ms) SELECT id, 1 FROM deliveries"
        )
        tried(desk, "no answer")
        for _ in range(2):
            tallies.count()
    assert tallies.tries() == {"delivered": 1, "failed": 1}
    for _ in range(2):
        later(desk)
        tallies.count()
    assert tallies.tries() == {"delivered": 1, "failed": 1}


def test_two_keepers_count_a_try_once(desk: Desk, tallies: Tallies) -> None:
    completed(desk, 1.0)
    later(desk)
    tried(desk, None)
    for _ in range(5):
        tallies.count()  # Within a minute of the first.
    assert tallies.tries() == {"delivered": 1}
    later(desk)
    for _ in range(5):
        tallies.count()
    assert tallies.tries() == {"delivered": 1}


def test_an_outage_of_the_keeper_is_counted_day_by_day(desk: Desk, tallies: Tallies) -> None:
    desk.run("UPDATE tally_marks SET until_at = until_at - interval '3 days 1 hour'")
    for days in range(4):
        completed(desk, 1.0)
        desk.run(
            "UPDATE jobs SET finished_at = finished_at - make_interval(days => :days, mins => 5)"
            " WHERE finished_at > clock_timestamp() - interval '4 minutes'",
            days=days,
        )
    assert [tallies.count() for _ in range(4)] == [True, True, True, False]
    assert desk.run("SELECT sum(count) AS n FROM tallies")[0]["n"] == 4
    assert ended(tallies) == {"succeeded": (4, 4.0)}


def test_figures_cost_the_same_however_many_jobs_have_ended(desk: Desk, tallies: Tallies) -> None:
    """What is read is counted in rows, of a history that is a hundred times as long."""
    completed(desk, 1.0)
    desk.run("UPDATE deliveries SET status = 'delivered', next_at = NULL")
    few = rows_read(desk, tallies)
    copies(desk, 3000)
    later(desk, timedelta(hours=1))
    tallies.count()
    desk.run("ANALYZE")
    many = rows_read(desk, tallies)
    assert sum(each.count for each in tallies.jobs()) == 3001
    assert many <= few + 600, (few, many)  # The newest 500 tell how long a render takes.


def copies(desk: Desk, count: int) -> None:
    """Copy the one ended job, its delivery and a try of it, so many times."""
    (columns,) = desk.run(
        "SELECT string_agg(column_name, ',') AS names FROM information_schema.columns"
        " WHERE table_name = 'jobs' AND column_name <> 'id'"
    )
    names = columns["names"]
    desk.run(
        f"INSERT INTO jobs (id, {names}) SELECT gen_random_uuid(), {names}"  # noqa: S608
        " FROM jobs, generate_series(1, :count)",
        count=count,
    )
    desk.run(
        "INSERT INTO deliveries (id, owner_id, job_id, endpoint_id, event, url, status)"
        " SELECT gen_random_uuid(), j.owner_id, j.id, d.endpoint_id, d.event, d.url, 'delivered'"
        " FROM jobs j, deliveries d ON CONFLICT DO NOTHING"
    )
    desk.run(
        "INSERT INTO delivery_attempts (delivery_id, latency_ms) SELECT id, 1 FROM deliveries"
    )
    desk.run(
        "UPDATE tally_marks SET until_at = clock_timestamp() - interval '1 hour',"
        " seen_id = (SELECT max(id) FROM delivery_attempts)"
    )


def rows_read(desk: Desk, tallies: Tallies) -> int:
    """Return how many rows a scrape reads of the tables that grow."""
    before = _read(desk)
    tallies.jobs(), tallies.tries(), tallies.deliveries()
    desk.ledger.live_counts()
    desk.ledger.queue("noop")
    Fleet(desk.db).live_workers()
    return _read(desk) - before


def _read(desk: Desk) -> int:
    desk.run("SELECT pg_stat_force_next_flush()")
    (row,) = desk.run(
        "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) AS n FROM pg_stat_user_tables"
        " WHERE relname IN ('jobs', 'deliveries', 'delivery_attempts')"
    )
    return int(row["n"])
