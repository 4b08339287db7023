"""Rows end too: the texts of deleted jobs, jobs long after their files, and what is counted."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from shared.engines.parameters import RequestedParameters
from shared.errors import AddressGone, NotFound
from shared.ids import new_id
from shared.jobs.job import Job
from shared.owners import ANONYMOUS
from shared.webhooks.delivery_log import DeliveryLog, DeliveryStatus, Window
from shared.webhooks.endpoints import Endpoints
from tests.support.factory import JobFixture
from tests.support.gateway import beside
from tests.support.outbox import ENDS
from tests.support.processes import until
from tests.support.stack import Stack
from worker.keeper.purge import KEYS_LIVE, Purger

YEAR = timedelta(days=365)
PURGE_DAYS = 90
SECRET_WORDS = (
    "a very private prompt",
    "never this",
    "the name of a customer",
    "hook.example.org",
    "headers sealed for a webhook",
)


@pytest.fixture(scope="module")
def one_desk(module_stack: Stack) -> Iterator[JobFixture]:
    desk = JobFixture(module_stack.settings())
    yield desk
    desk.close()


@pytest.fixture
def job_fixture(one_desk: JobFixture) -> JobFixture:
    one_desk.run("TRUNCATE jobs, webhook_endpoints, deliveries CASCADE")
    return one_desk


@pytest.fixture
def purger(job_fixture: JobFixture) -> Purger:
    return Purger(job_fixture.db, job_fixture.settings)


def ended(job_fixture: JobFixture, **fields: Any) -> Job:
    job = job_fixture.submit(asked=RequestedParameters(), **fields)
    return job_fixture.jobs.cancel(job.id, owner_id=ANONYMOUS)


def waiting_for_locks(job_fixture: JobFixture) -> int:
    (row,) = job_fixture.run(
        "SELECT count(*) AS n FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return int(row["n"])


def wordy(job_fixture: JobFixture) -> Job:
    """Return a canceled job with a client's text in each field that may have one."""
    asked = RequestedParameters(prompt=SECRET_WORDS[0], negative_prompt=SECRET_WORDS[1])
    return job_fixture.jobs.cancel(
        job_fixture.submit(
            asked=asked,
            metadata={"for": SECRET_WORDS[2]},
            warnings=(f"nothing is done with {SECRET_WORDS[1]!r}",),
            webhook_url=f"https://{SECRET_WORDS[3]}/{uuid4().hex}",
            webhook_event_types=ENDS,
            webhook_headers=SECRET_WORDS[4],
            request_id="req_1",
        ).id,
        owner_id=ANONYMOUS,
    )


def gone(job_fixture: JobFixture, *, ago: timedelta, only: UUID | None = None) -> None:
    """Make the jobs' files end this long ago, and all their earlier times too."""
    job_fixture.run(
        "UPDATE jobs SET sweep_at = NULL, created_at = created_at - :ago,"
        " finished_at = finished_at - :ago, expired_at = clock_timestamp() - :ago,"
        " deleted_at = deleted_at - :ago WHERE id = coalesce(:only, id)",
        ago=ago,
        only=only,
    )


def delivered(job_fixture: JobFixture, status: str = "delivered") -> None:
    job_fixture.run(
        "UPDATE deliveries SET status = :status, next_at = NULL,"
        " delivered_at = clock_timestamp(), tries = 1",
        status=status,
    )


def test_a_jobs_row_ends_so_long_after_its_files(job_fixture: JobFixture, purger: Purger) -> None:
    old, young = ended(job_fixture), ended(job_fixture)
    gone(job_fixture, ago=timedelta(days=PURGE_DAYS - 1))
    assert purger.purge() == 0
    gone(job_fixture, ago=timedelta(days=PURGE_DAYS + 1), only=old.id)
    assert purger.purge() == 1
    assert [row["id"] for row in job_fixture.run("SELECT id FROM jobs")] == [young.id]


def test_it_is_the_files_that_count_and_not_the_jobs_end(
    job_fixture: JobFixture, purger: Purger
) -> None:
    ended(job_fixture)
    gone(job_fixture, ago=YEAR)
    job_fixture.run("UPDATE jobs SET expired_at = clock_timestamp() - interval '89 days'")
    assert purger.purge() == 0
    job_fixture.run("UPDATE jobs SET expired_at = clock_timestamp() - interval '91 days'")
    assert purger.purge() == 1


@pytest.mark.parametrize("state", ["queued", "running", "kept", "to be swept"])
def test_a_job_that_lives_or_has_files_is_kept(
    job_fixture: JobFixture, purger: Purger, state: str
) -> None:
    job = job_fixture.submit()
    if state == "running":
        job_fixture.jobs.claim(["noop"], worker="w#1")
    if state in {"kept", "to be swept"}:
        job_fixture.jobs.cancel(job.id, owner_id=ANONYMOUS)
        gone(job_fixture, ago=YEAR)
    if state == "kept":
        job_fixture.run("UPDATE jobs SET expired_at = NULL")
    if state == "to be swept":
        job_fixture.run("UPDATE jobs SET sweep_at = clock_timestamp()")
    job_fixture.run("UPDATE jobs SET created_at = clock_timestamp() - :ago", ago=YEAR)
    assert purger.purge() == 0
    assert job_fixture.get(job).id == job.id


def test_deliveries_and_their_tries_end_with_the_job(
    job_fixture: JobFixture, purger: Purger
) -> None:
    wordy(job_fixture)
    delivered(job_fixture)
    job_fixture.run(
        "INSERT INTO delivery_attempts (delivery_id, latency_ms) SELECT id, 1 FROM deliveries"
    )
    gone(job_fixture, ago=YEAR)
    assert purger.purge() == 1
    for table in ("jobs", "deliveries", "delivery_attempts"):
        assert job_fixture.run(f"SELECT count(*) AS n FROM {table}")[0]["n"] == 0  # noqa: S608


def test_a_job_with_a_pending_delivery_is_kept(job_fixture: JobFixture, purger: Purger) -> None:
    wordy(job_fixture)
    gone(job_fixture, ago=YEAR)
    assert purger.purge() == 0
    delivered(job_fixture, "dead")
    assert purger.purge() == 1


def test_a_replay_that_began_before_the_purge_is_kept(
    job_fixture: JobFixture, purger: Purger
) -> None:
    """The delivery is pending by the time that the purge has locked it."""
    wordy(job_fixture)
    delivered(job_fixture)
    gone(job_fixture, ago=YEAR)
    with job_fixture.db.begin() as replay:
        replay.exec_driver_sql(
            "UPDATE deliveries SET status = 'pending', next_at = clock_timestamp()"
        )
        purging = beside(purger.purge)
        until(lambda: waiting_for_locks(job_fixture) == 1, "the purge waits for the replay")
    assert purging.result(timeout=60) == 0
    assert len(job_fixture.run("SELECT FROM deliveries")) == 1


@pytest.mark.parametrize(
    ("schedule", "kept", "purged"),
    [
        ("0", KEYS_LIVE - timedelta(hours=1), KEYS_LIVE + timedelta(hours=1)),
        ("0,864000", timedelta(days=11), timedelta(days=12.1)),
    ],
)
def test_nothing_is_purged_before_keys_and_the_schedule_have_run_out(
    job_fixture: JobFixture, module_stack: Stack, schedule: str, kept: timedelta, purged: timedelta
) -> None:
    settings = module_stack.settings(purge_seconds=0, webhook_schedule=schedule)
    purger = Purger(job_fixture.db, settings)
    ended(job_fixture)
    gone(job_fixture, ago=kept)
    assert purger.purge() == 0
    gone(job_fixture, ago=purged)
    assert purger.purge() == 1


def test_a_purge_takes_small_batches(job_fixture: JobFixture) -> None:
    purger = Purger(job_fixture.db, job_fixture.settings, batch=2)
    for _ in range(5):
        ended(job_fixture)
    gone(job_fixture, ago=YEAR)
    assert [purger.purge() for _ in range(4)] == [2, 2, 1, 0]


def test_test_deliveries_end_too(job_fixture: JobFixture, purger: Purger) -> None:
    endpoint = Endpoints(job_fixture.db).default(ANONYMOUS)
    for status in ("delivered", "pending"):
        job_fixture.run(
            "INSERT INTO deliveries (id, owner_id, endpoint_id, event, url, status, next_at,"
            " created_at) VALUES (:id, :owner, :endpoint, 'webhook.test', 'https://x', :status,"
            " CASE WHEN :status = 'pending' THEN clock_timestamp() END,"
            " clock_timestamp() - :ago)",
            id=new_id(),
            owner=ANONYMOUS,
            endpoint=endpoint.id,
            status=status,
            ago=YEAR,
        )
    assert [purger.purge_tests(), purger.purge_tests()] == [1, 0]
    assert [row["status"] for row in job_fixture.run("SELECT status FROM deliveries")] == [
        "pending"
    ]


def everything(job_fixture: JobFixture) -> str:
    """Return all that the database has of jobs and deliveries, as text."""
    return str(
        job_fixture.run(
            "SELECT (SELECT json_agg(j) FROM jobs j)::text AS jobs,"
            " (SELECT json_agg(d) FROM deliveries d)::text AS deliveries,"
            " (SELECT json_agg(a) FROM delivery_attempts a)::text AS attempts"
        )
    )


def test_the_words_of_a_deleted_job_go_when_its_last_webhook_has_ended(
    job_fixture: JobFixture, purger: Purger
) -> None:
    job = wordy(job_fixture)
    job_fixture.jobs.delete(job.id, owner_id=ANONYMOUS)
    assert purger.blank() == 0  # Its webhook's body is still to be sent.
    delivered(job_fixture)
    job_fixture.run(
        "INSERT INTO delivery_attempts (delivery_id, latency_ms, error, excerpt)"
        " SELECT id, 1, :error, :excerpt FROM deliveries",
        error=f"{SECRET_WORDS[3]} has no address",
        excerpt=f"thank you for {SECRET_WORDS[0]}",
    )
    assert all(word in everything(job_fixture) for word in SECRET_WORDS)
    assert purger.blank() == 1
    assert not any(word in everything(job_fixture) for word in SECRET_WORDS)
    assert job_fixture.get(job).parameters.prompt == ""
    assert purger.blank() == 0


def test_the_words_of_a_deleted_job_without_webhooks_go_at_once(
    job_fixture: JobFixture, purger: Purger
) -> None:
    job, kept = (
        ended(job_fixture, metadata={"for": "me"}),
        ended(job_fixture, metadata={"for": "you"}),
    )
    job_fixture.jobs.delete(job.id, owner_id=ANONYMOUS)
    assert purger.blank() == 1
    assert (job_fixture.get(job).metadata, job_fixture.get(kept).metadata) == ({}, {"for": "you"})


def test_a_dead_letter_ends_a_deleted_jobs_words_too(
    job_fixture: JobFixture, purger: Purger
) -> None:
    job_fixture.jobs.delete(wordy(job_fixture).id, owner_id=ANONYMOUS)
    delivered(job_fixture, "dead")
    assert purger.blank() == 1
    assert SECRET_WORDS[0] not in everything(job_fixture)


def test_what_has_no_address_any_more_cannot_be_replayed(
    job_fixture: JobFixture, purger: Purger
) -> None:
    job_fixture.jobs.delete(wordy(job_fixture).id, owner_id=ANONYMOUS)
    delivered(job_fixture, "dead")
    purger.blank()
    outbox = DeliveryLog(job_fixture.db, first_try=timedelta(0))
    (row,) = job_fixture.run("SELECT id, endpoint_id, created_at FROM deliveries")
    with pytest.raises(AddressGone):
        outbox.replay(row["id"], owner_id=ANONYMOUS)
    with pytest.raises(NotFound):
        outbox.replay(row["id"], owner_id=uuid4())
    window = Window(since=row["created_at"], until=None, status=DeliveryStatus.DEAD)
    found = Endpoints(job_fixture.db).default(ANONYMOUS)
    assert outbox.replay_range(found, window, owner_id=ANONYMOUS) == 0


def test_an_idempotency_key_is_forgotten_after_a_day(
    job_fixture: JobFixture, purger: Purger
) -> None:
    first = job_fixture.submit(idempotency_key="k", idempotency_fingerprint="f")
    assert purger.forget_keys() == 0
    assert job_fixture.submit(idempotency_key="k", idempotency_fingerprint="f").id == first.id
    job_fixture.run("UPDATE jobs SET created_at = created_at - :day", day=timedelta(days=1))
    assert purger.forget_keys() == 1
    assert job_fixture.submit(idempotency_key="k", idempotency_fingerprint="f").id != first.id
