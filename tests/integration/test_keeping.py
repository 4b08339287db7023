"""What the keeper mends: bells, expiry, deleted jobs' files, leftovers of lost attempts."""

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import pytest

from bench.noop import NoopEngine
from shared.bell import Bell
from shared.errors import Gone, StorageUnavailable
from shared.fleet import Fleet, WorkerCard
from shared.job import Artifact, Job, Result, Variant, input_key, new_id, output_key
from shared.jobs import Claim
from shared.lifecycle import Status
from shared.storage import Storage
from shared.tables import ANONYMOUS
from tests.factory import Desk
from tests.processes import until
from tests.stack import Stack
from tests.stubborn_store import StubbornStore
from worker import orphans
from worker.orphans import GRACE, OrphanSweeper
from worker.ringer import Ringer
from worker.sweep import FIRST_BACKOFF, MOST_BACKOFF, Sweeper

HOUR = timedelta(hours=1)


@pytest.fixture
def desk(stack: Stack) -> Iterator[Desk]:
    desk = Desk(stack.settings())
    yield desk
    desk.close()


@pytest.fixture
def bell(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bell]:
    # A bell that Redis takes late is a lost one, and here nobody rings it anew.
    monkeypatch.setattr("shared.bell.SOCKET_SECONDS", 20.0)
    bell = Bell(desk.settings.redis_url.get_secret_value())
    yield bell
    bell.close()


@pytest.fixture
def ringer(desk: Desk, bell: Bell) -> Ringer:
    return Ringer(desk.db, desk.ledger, Fleet(desk.db), bell)


@pytest.fixture
def sweeper(desk: Desk) -> Sweeper:
    return Sweeper(desk.db, desk.storage, desk.settings)


def workers(desk: Desk, count: int) -> None:
    fleet = Fleet(desk.db)
    fleet.offer([NoopEngine.spec])
    for number in range(count):
        fleet.beat(
            WorkerCard(
                name=f"w{number}",
                host="h",
                pid=number,
                device="cpu",
                device_name=None,
                vram_bytes=None,
                engines=["noop"],
                resident_engine=None,
                state="ready",
                model_loads=0,
            )
        )


def heard(bell: Bell, count: int) -> None:
    until(lambda: bell.waiting("noop") == count, f"{count} bells wait")


@pytest.mark.parametrize(("jobs", "alive", "bells"), [(3, 2, 3), (9, 2, 4), (9, 0, 0), (0, 2, 0)])
def test_bells_are_topped_up_to_the_jobs_or_twice_the_workers(
    desk: Desk, bell: Bell, ringer: Ringer, jobs: int, alive: int, bells: int
) -> None:
    workers(desk, alive)
    for _ in range(jobs):
        desk.submit()
    assert ringer.top_up() == bells
    heard(bell, bells)
    assert ringer.top_up() == 0


def test_a_silent_worker_gets_no_bells(desk: Desk, ringer: Ringer) -> None:
    workers(desk, 1)
    desk.submit()
    desk.run("UPDATE workers SET beat_at = clock_timestamp() - interval '1 minute'")
    assert ringer.top_up() == 0


def test_a_job_that_waits_for_its_backoff_rings_no_bell(desk: Desk, ringer: Ringer) -> None:
    workers(desk, 1)
    desk.submit()
    desk.run("UPDATE jobs SET due_at = clock_timestamp() + interval '1 hour'")
    assert ringer.top_up() == 0


def rendered(desk: Desk) -> Job:
    """Return a succeeded job with its files, and a leftover of a lost first attempt."""
    job = desk.submit()
    for attempt in (1, 2):
        key = output_key(job.id, attempt, ".mp4")
        desk.storage.put(key, b"clip", content_type="video/mp4")
    desk.storage.put(input_key(job.id), b"picture", content_type="image/png")
    desk.jobs.claim(["noop"], worker="w#1")
    desk.run("UPDATE jobs SET lease_until = clock_timestamp() - interval '1 s'")
    desk.jobs.reap(max_attempts=3)
    desk.jobs.claim(["noop"], worker="w#1")
    artifact = Artifact(
        key=output_key(job.id, 2, ".mp4"), content_type="video/mp4", bytes=4, sha256="0"
    )
    result = Result(ai_generated=False, artifacts={Variant.VIDEO: artifact})
    return desk.jobs.complete(Claim(job.id, 2), result, {})


def keys(desk: Desk, job: Job) -> set[str]:
    names = {output_key(job.id, 1, ".mp4"), output_key(job.id, 2, ".mp4"), input_key(job.id)}
    return {key for key in names if _exists(desk, key)}


def _exists(desk: Desk, key: str) -> bool:
    try:
        desk.storage.get(key)
    except Gone:
        return False
    return True


def due(desk: Desk) -> None:
    desk.run("UPDATE jobs SET sweep_at = clock_timestamp()")


def test_a_lost_attempts_leftovers_go_and_the_result_stays(desk: Desk, sweeper: Sweeper) -> None:
    job = rendered(desk)
    assert sweeper.sweep() == 0
    due(desk)
    assert sweeper.sweep() == 1
    assert keys(desk, job) == {output_key(job.id, 2, ".mp4"), input_key(job.id)}
    assert desk.run("SELECT sweep_at = expires_at AS so FROM jobs")[0]["so"]


def test_an_expired_job_keeps_its_row_and_loses_its_files(desk: Desk, sweeper: Sweeper) -> None:
    job = rendered(desk)
    desk.run("UPDATE jobs SET expires_at = clock_timestamp()")
    due(desk)
    sweeper.sweep()
    assert keys(desk, job) == set()
    now = desk.get(job)
    assert (now.status, now.expired_at is not None) == (Status.SUCCEEDED, True)
    assert sweeper.sweep() == 0


def test_a_deleted_jobs_late_upload_is_swept_too(desk: Desk, sweeper: Sweeper) -> None:
    job = rendered(desk)
    desk.jobs.delete(job.id, owner_id=ANONYMOUS)
    sweeper.sweep()
    assert keys(desk, job) == set()
    desk.storage.put(output_key(job.id, 1, ".mp4"), b"late", content_type="video/mp4")
    assert sweeper.sweep() == 0
    desk.run(
        "UPDATE jobs SET sweep_at = sweep_at - interval '1 day',"
        " deleted_at = deleted_at - interval '1 day'"
    )
    assert sweeper.sweep() == 1
    assert keys(desk, job) == set()
    assert desk.run("SELECT sweep_at FROM jobs")[0]["sweep_at"] is None


@pytest.fixture
def store() -> Iterator[StubbornStore]:
    with StubbornStore() as store:
        yield store


@pytest.fixture
def stubborn(store: StubbornStore, stack: Stack) -> Iterator[Storage]:
    storage = Storage(stack.settings(s3_endpoint=store.url), read=timedelta(seconds=20))
    yield storage
    storage.close()


def expired(desk: Desk, store: StubbornStore, count: int) -> list[Job]:
    """Return canceled jobs whose files have expired, the first one first."""
    jobs = []
    for _ in range(count):
        job = desk.submit()
        desk.jobs.cancel(job.id, owner_id=ANONYMOUS)
        store.objects |= {input_key(job.id), output_key(job.id, 1, ".mp4")}
        desk.run(
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


@pytest.mark.parametrize("refused", ["picture", "clip"])
def test_an_object_that_cannot_be_deleted_stops_no_other(
    desk: Desk, store: StubbornStore, stubborn: Storage, refused: str
) -> None:
    first, *others = expired(desk, store, 4)
    key = input_key(first.id) if refused == "picture" else output_key(first.id, 1, ".mp4")
    store.kept = {key}
    sweeper = Sweeper(desk.db, stubborn, desk.settings)
    assert sweeper.sweep() == 3
    assert store.objects == {key}  # Of the same job the other file went.
    assert all(desk.get(job).expired_at for job in others)
    assert desk.get(first).expired_at is None  # Its row does not say that it is swept.
    assert sweeper.sweep() == 0  # Put off.
    (wait,) = desk.run(
        "SELECT sweep_at - clock_timestamp() AS so FROM jobs WHERE id = :id", id=first.id
    )
    assert timedelta(seconds=30) < wait["so"] <= FIRST_BACKOFF

    store.kept = set()
    due(desk)
    assert sweeper.sweep() >= 1
    assert store.objects == set()


def test_an_object_that_cannot_be_deleted_is_tried_less_and_less(
    desk: Desk, store: StubbornStore, stubborn: Storage
) -> None:
    (job,) = expired(desk, store, 1)
    store.kept = {output_key(job.id, 1, ".mp4")}
    sweeper = Sweeper(desk.db, stubborn, desk.settings)
    waits = []
    for hours in (1, 4, 100):
        desk.run(
            "UPDATE jobs SET sweep_at = clock_timestamp(),"
            " expires_at = clock_timestamp() - make_interval(hours => :hours)",
            hours=hours,
        )
        assert sweeper.sweep() == 0
        waits.append(desk.run("SELECT sweep_at - clock_timestamp() AS so FROM jobs")[0]["so"])
    for wait, about in zip(waits, (timedelta(minutes=30), 2 * HOUR, MOST_BACKOFF), strict=True):
        assert about - timedelta(minutes=1) < wait < about + timedelta(minutes=1)


def test_a_row_that_cannot_be_read_stops_no_other(
    desk: Desk, store: StubbornStore, stubborn: Storage
) -> None:
    broken, whole = expired(desk, store, 2)
    desk.run("UPDATE jobs SET parameters = parameters - 'fps' WHERE id = :id", id=broken.id)
    sweeper = Sweeper(desk.db, stubborn, desk.settings)
    assert [sweeper.sweep(), sweeper.sweep()] == [1, 0]
    assert desk.get(whole).expired_at is not None


def test_a_store_that_is_away_puts_no_job_off(
    desk: Desk, store: StubbornStore, stubborn: Storage
) -> None:
    expired(desk, store, 3)
    sweeper = Sweeper(desk.db, stubborn, desk.settings)
    store.hung_up = True
    with pytest.raises(StorageUnavailable):
        sweeper.sweep()
    store.hung_up = False
    assert sweeper.sweep() == 3


def test_a_delete_is_not_put_off_with_the_sweep_that_failed_before_it(
    desk: Desk, store: StubbornStore, stubborn: Storage
) -> None:
    (job,) = expired(desk, store, 1)
    store.kept = {output_key(job.id, 1, ".mp4")}
    store.on_refusal = lambda: desk.jobs.delete(job.id, owner_id=ANONYMOUS)
    sweeper = Sweeper(desk.db, stubborn, desk.settings)
    assert sweeper.sweep() == 0
    store.kept = set()
    assert sweeper.sweep() == 1


def test_an_orphan_that_cannot_be_deleted_stops_no_other(
    desk: Desk, store: StubbornStore, stubborn: Storage
) -> None:
    lost = sorted(input_key(drawn(2 * GRACE)) for _ in range(4))
    store.objects, store.kept = set(lost), {lost[0]}
    assert OrphanSweeper(desk.db, stubborn).sweep() == 3
    assert store.objects == {lost[0]}


def test_a_store_that_is_away_ends_the_walk_for_orphans_where_it_is(
    desk: Desk, store: StubbornStore, stubborn: Storage
) -> None:
    store.objects = {input_key(drawn(2 * GRACE)) for _ in range(4)}
    store.on_delete = store.hang_up
    sweeper = OrphanSweeper(desk.db, stubborn)
    with pytest.raises(StorageUnavailable):
        sweeper.sweep()
    store.on_delete, store.hung_up = None, False
    assert sweeper.sweep() == 4


def drawn(age: timedelta) -> UUID:
    """Return a uuid7 as it was drawn this long ago."""
    fresh = new_id()
    return UUID(int=fresh.int - (int(age.total_seconds() * 1000) << 80))


def test_a_picture_without_a_job_goes_once_no_submit_can_still_be_on_its_way(desk: Desk) -> None:
    orphan, owned, young = drawn(2 * GRACE), drawn(2 * GRACE), new_id()
    desk.submit(id=owned)
    for job_id in (orphan, owned, young):
        desk.storage.put(input_key(job_id), b"picture", content_type="image/png")
    desk.storage.put("inputs/not-ours.txt", b"?", content_type="text/plain")
    assert OrphanSweeper(desk.db, desk.storage).sweep() == 1
    assert [_exists(desk, input_key(job_id)) for job_id in (orphan, owned, young)] == [
        False,
        True,
        True,
    ]
    assert _exists(desk, "inputs/not-ours.txt")


def test_orphans_are_found_page_by_page(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orphans, "PAGE", 2)
    lost = [drawn(2 * GRACE) for _ in range(5)]
    for job_id in lost:
        desk.storage.put(input_key(job_id), b"picture", content_type="image/png")
    sweeper = OrphanSweeper(desk.db, desk.storage)
    assert [sweeper.sweep() for _ in range(4)] == [2, 2, 1, 0]
