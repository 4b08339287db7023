"""The keeper's repairs: expiry, files of deleted jobs, leftovers of lost attempts."""

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import pytest

from shared.errors import Gone, StorageUnavailable
from shared.ids import new_id
from shared.jobs.job import Artifact, Job, Result, Variant
from shared.jobs.storage_keys import input_key, output_key
from shared.jobs.transitions import Claim
from shared.lifecycle import Status
from shared.owners import ANONYMOUS
from shared.storage import Storage
from tests.support.factory import JobFixture
from tests.support.stack import Stack
from tests.support.stubborn_store import StubbornStore
from worker.keeper.expiry import FIRST_BACKOFF, MOST_BACKOFF, Sweeper
from worker.keeper.orphan_images import GRACE, OrphanSweeper

HOUR = timedelta(hours=1)


@pytest.fixture
def job_fixture(stack: Stack) -> Iterator[JobFixture]:
    desk = JobFixture(stack.settings())
    yield desk
    desk.close()


@pytest.fixture
def sweeper(job_fixture: JobFixture) -> Sweeper:
    return Sweeper(job_fixture.db, job_fixture.storage, job_fixture.settings)


def rendered(job_fixture: JobFixture) -> Job:
    """Return a succeeded job with its files, and with a leftover of a lost first attempt."""
    job = job_fixture.submit()
    for attempt in (1, 2):
        key = output_key(job.id, attempt, ".mp4")
        job_fixture.storage.put(key, b"clip", content_type="video/mp4")
    job_fixture.storage.put(input_key(job.id), b"image", content_type="image/png")
    job_fixture.jobs.claim(["noop"], worker="w#1")
    job_fixture.run("UPDATE jobs SET lease_until = clock_timestamp() - interval '1 s'")
    job_fixture.jobs.reap(max_attempts=3)
    job_fixture.jobs.claim(["noop"], worker="w#1")
    artifact = Artifact(
        key=output_key(job.id, 2, ".mp4"), content_type="video/mp4", bytes=4, sha256="0"
    )
    result = Result(ai_generated=False, artifacts={Variant.VIDEO: artifact})
    return job_fixture.jobs.complete(Claim(job.id, 2), result, {})


def keys(job_fixture: JobFixture, job: Job) -> set[str]:
    names = {output_key(job.id, 1, ".mp4"), output_key(job.id, 2, ".mp4"), input_key(job.id)}
    return {key for key in names if _exists(job_fixture, key)}


def _exists(job_fixture: JobFixture, key: str) -> bool:
    try:
        job_fixture.storage.get(key)
    except Gone:
        return False
    return True


def due(job_fixture: JobFixture) -> None:
    job_fixture.run("UPDATE jobs SET sweep_at = clock_timestamp()")


def test_a_lost_attempts_leftovers_go_and_the_result_stays(
    job_fixture: JobFixture, sweeper: Sweeper
) -> None:
    job = rendered(job_fixture)
    assert sweeper.sweep() == 0
    due(job_fixture)
    assert sweeper.sweep() == 1
    assert keys(job_fixture, job) == {output_key(job.id, 2, ".mp4"), input_key(job.id)}
    assert job_fixture.run("SELECT sweep_at = expires_at AS so FROM jobs")[0]["so"]


def test_an_expired_job_keeps_its_row_and_loses_its_files(
    job_fixture: JobFixture, sweeper: Sweeper
) -> None:
    job = rendered(job_fixture)
    job_fixture.run("UPDATE jobs SET expires_at = clock_timestamp()")
    due(job_fixture)
    sweeper.sweep()
    assert keys(job_fixture, job) == set()
    now = job_fixture.get(job)
    assert (now.status, now.expired_at is not None) == (Status.SUCCEEDED, True)
    assert sweeper.sweep() == 0


def test_a_deleted_jobs_late_upload_is_swept_too(
    job_fixture: JobFixture, sweeper: Sweeper
) -> None:
    job = rendered(job_fixture)
    job_fixture.jobs.delete(job.id, owner_id=ANONYMOUS)
    sweeper.sweep()
    assert keys(job_fixture, job) == set()
    job_fixture.storage.put(output_key(job.id, 1, ".mp4"), b"late", content_type="video/mp4")
    assert sweeper.sweep() == 0
    job_fixture.run(
        "UPDATE jobs SET sweep_at = sweep_at - interval '1 day',"
        " deleted_at = deleted_at - interval '1 day'"
    )
    assert sweeper.sweep() == 1
    assert keys(job_fixture, job) == set()
    assert job_fixture.run("SELECT sweep_at FROM jobs")[0]["sweep_at"] is None


@pytest.fixture
def store() -> Iterator[StubbornStore]:
    with StubbornStore() as store:
        yield store


@pytest.fixture
def stubborn(store: StubbornStore, stack: Stack) -> Iterator[Storage]:
    storage = Storage(stack.settings(s3_endpoint=store.url), read=timedelta(seconds=20))
    yield storage
    storage.close()


def expired(job_fixture: JobFixture, store: StubbornStore, count: int) -> list[Job]:
    """Return canceled jobs whose files have expired, the first one first."""
    jobs = []
    for _ in range(count):
        job = job_fixture.submit()
        job_fixture.jobs.cancel(job.id, owner_id=ANONYMOUS)
        store.objects |= {input_key(job.id), output_key(job.id, 1, ".mp4")}
        job_fixture.run(
            "UPDATE jobs SET expires_at = clock_timestamp(), sweep_at = clock_timestamp()"
            " WHERE id = :id",
            id=job.id,
        )
        jobs.append(job)
    return jobs


def test_what_a_store_refuses_to_delete_inside_a_200_is_an_error(
    store: StubbornStore, stubborn: Storage
) -> None:
    store.objects = {"videos/x/1.mp4", "videos/x/2.mp4"}
    store.kept = {"videos/x/1.mp4"}
    with pytest.raises(StorageUnavailable, match="delete 1 of 2 objects, with AccessDenied"):
        stubborn.delete_prefix("videos/x/")
    assert store.objects == store.kept
    store.kept = set()
    assert stubborn.delete_prefix("videos/x/") == 1


@pytest.mark.parametrize("refused", ["image", "clip"])
def test_an_object_that_cannot_be_deleted_stops_no_other(
    job_fixture: JobFixture, store: StubbornStore, stubborn: Storage, refused: str
) -> None:
    first, *others = expired(job_fixture, store, 4)
    key = input_key(first.id) if refused == "image" else output_key(first.id, 1, ".mp4")
    store.kept = {key}
    sweeper = Sweeper(job_fixture.db, stubborn, job_fixture.settings)
    assert sweeper.sweep() == 3
    assert store.objects == {key}  # The job's other file was deleted.
    assert all(job_fixture.get(job).expired_at for job in others)
    assert job_fixture.get(first).expired_at is None  # Its row does not say that it is swept.
    assert sweeper.sweep() == 0  # The job is put off.
    (wait,) = job_fixture.run(
        "SELECT sweep_at - clock_timestamp() AS so FROM jobs WHERE id = :id", id=first.id
    )
    assert timedelta(seconds=30) < wait["so"] <= FIRST_BACKOFF

    store.kept = set()
    due(job_fixture)
    assert sweeper.sweep() >= 1
    assert store.objects == set()


def test_an_object_that_cannot_be_deleted_is_tried_less_and_less(
    job_fixture: JobFixture, store: StubbornStore, stubborn: Storage
) -> None:
    (job,) = expired(job_fixture, store, 1)
    store.kept = {output_key(job.id, 1, ".mp4")}
    sweeper = Sweeper(job_fixture.db, stubborn, job_fixture.settings)
    waits = []
    for hours in (1, 4, 100):
        job_fixture.run(
            "UPDATE jobs SET sweep_at = clock_timestamp(),"
            " expires_at = clock_timestamp() - make_interval(hours => :hours)",
            hours=hours,
        )
        assert sweeper.sweep() == 0
        waits.append(
            job_fixture.run("SELECT sweep_at - clock_timestamp() AS so FROM jobs")[0]["so"]
        )
    for wait, about in zip(waits, (timedelta(minutes=30), 2 * HOUR, MOST_BACKOFF), strict=True):
        assert about - timedelta(minutes=1) < wait < about + timedelta(minutes=1)


def test_a_row_that_cannot_be_read_stops_no_other(
    job_fixture: JobFixture, store: StubbornStore, stubborn: Storage
) -> None:
    broken, whole = expired(job_fixture, store, 2)
    job_fixture.run("UPDATE jobs SET parameters = parameters - 'fps' WHERE id = :id", id=broken.id)
    sweeper = Sweeper(job_fixture.db, stubborn, job_fixture.settings)
    assert [sweeper.sweep(), sweeper.sweep()] == [1, 0]
    assert job_fixture.get(whole).expired_at is not None


def test_a_store_that_is_away_puts_no_job_off(
    job_fixture: JobFixture, store: StubbornStore, stubborn: Storage
) -> None:
    expired(job_fixture, store, 3)
    sweeper = Sweeper(job_fixture.db, stubborn, job_fixture.settings)
    store.hung_up = True
    with pytest.raises(StorageUnavailable):
        sweeper.sweep()
    store.hung_up = False
    assert sweeper.sweep() == 3


def test_a_delete_is_not_put_off_with_the_sweep_that_failed_before_it(
    job_fixture: JobFixture, store: StubbornStore, stubborn: Storage
) -> None:
    (job,) = expired(job_fixture, store, 1)
    store.kept = {output_key(job.id, 1, ".mp4")}
    store.on_refusal = lambda: job_fixture.jobs.delete(job.id, owner_id=ANONYMOUS)
    sweeper = Sweeper(job_fixture.db, stubborn, job_fixture.settings)
    assert sweeper.sweep() == 0
    store.kept = set()
    assert sweeper.sweep() == 1


def test_an_orphan_that_cannot_be_deleted_stops_no_other(
    job_fixture: JobFixture, store: StubbornStore, stubborn: Storage
) -> None:
    lost = sorted(input_key(drawn(2 * GRACE)) for _ in range(4))
    store.objects, store.kept = set(lost), {lost[0]}
    assert OrphanSweeper(job_fixture.db, stubborn).sweep() == 3
    assert store.objects == {lost[0]}


def test_a_store_that_is_away_ends_the_walk_for_orphans_where_it_is(
    job_fixture: JobFixture, store: StubbornStore, stubborn: Storage
) -> None:
    store.objects = {input_key(drawn(2 * GRACE)) for _ in range(4)}
    store.on_delete = store.hang_up
    sweeper = OrphanSweeper(job_fixture.db, stubborn)
    with pytest.raises(StorageUnavailable):
        sweeper.sweep()
    store.on_delete, store.hung_up = None, False
    assert sweeper.sweep() == 4


def drawn(age: timedelta) -> UUID:
    """Return a uuid7 that looks this old."""
    fresh = new_id()
    return UUID(int=fresh.int - (int(age.total_seconds() * 1000) << 80))


def test_an_image_without_a_job_goes_once_no_submit_can_still_be_on_its_way(
    job_fixture: JobFixture,
) -> None:
    orphan, owned, young = drawn(2 * GRACE), drawn(2 * GRACE), new_id()
    job_fixture.submit(id=owned)
    for job_id in (orphan, owned, young):
        job_fixture.storage.put(input_key(job_id), b"image", content_type="image/png")
    job_fixture.storage.put("inputs/not-ours.txt", b"?", content_type="text/plain")
    assert OrphanSweeper(job_fixture.db, job_fixture.storage).sweep() == 1
    assert [_exists(job_fixture, input_key(job_id)) for job_id in (orphan, owned, young)] == [
        False,
        True,
        True,
    ]
    assert _exists(job_fixture, "inputs/not-ours.txt")


def test_orphans_are_found_page_by_page(job_fixture: JobFixture) -> None:
    lost = [drawn(2 * GRACE) for _ in range(5)]
    for job_id in lost:
        job_fixture.storage.put(input_key(job_id), b"image", content_type="image/png")
    sweeper = OrphanSweeper(job_fixture.db, job_fixture.storage, page=2)
    assert [sweeper.sweep() for _ in range(4)] == [2, 2, 1, 0]
