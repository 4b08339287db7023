"""What the keeper mends: bells, expiry, deleted jobs' files, leftovers of lost attempts."""

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import pytest

from bench.noop import NoopEngine
from shared.bell import Bell
from shared.engines.registry import EngineRegistry, WorkerInfo
from shared.errors import Gone
from shared.ids import new_id
from shared.jobs.job import Artifact, Job, Result, Variant
from shared.jobs.storage_keys import input_key, output_key
from shared.jobs.transitions import Claim
from shared.lifecycle import Status
from shared.tables import ANONYMOUS
from tests.support.factory import JobFixture
from tests.support.processes import until
from tests.support.stack import Stack
from worker.keeper import orphan_images
from worker.keeper.bells import Ringer
from worker.keeper.expiry import Sweeper
from worker.keeper.orphan_images import GRACE, OrphanSweeper


@pytest.fixture
def job_fixture(stack: Stack) -> Iterator[JobFixture]:
    desk = JobFixture(stack.settings())
    yield desk
    desk.close()


@pytest.fixture
def bell(job_fixture: JobFixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bell]:
    # A bell that Redis takes late is a lost one, and here nobody rings it anew.
    monkeypatch.setattr("shared.bell.SOCKET_SECONDS", 20.0)
    bell = Bell(job_fixture.settings.redis_url.get_secret_value())
    yield bell
    bell.close()


@pytest.fixture
def ringer(job_fixture: JobFixture, bell: Bell) -> Ringer:
    return Ringer(job_fixture.db, job_fixture.queries, EngineRegistry(job_fixture.db), bell)


@pytest.fixture
def sweeper(job_fixture: JobFixture) -> Sweeper:
    return Sweeper(job_fixture.db, job_fixture.storage, job_fixture.settings)


def workers(job_fixture: JobFixture, count: int) -> None:
    registry = EngineRegistry(job_fixture.db)
    registry.offer([NoopEngine.spec])
    for number in range(count):
        registry.beat(
            WorkerInfo(
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
    job_fixture: JobFixture, bell: Bell, ringer: Ringer, jobs: int, alive: int, bells: int
) -> None:
    workers(job_fixture, alive)
    for _ in range(jobs):
        job_fixture.submit()
    assert ringer.top_up() == bells
    heard(bell, bells)
    assert ringer.top_up() == 0


def test_a_silent_worker_gets_no_bells(job_fixture: JobFixture, ringer: Ringer) -> None:
    workers(job_fixture, 1)
    job_fixture.submit()
    job_fixture.run("UPDATE workers SET beat_at = clock_timestamp() - interval '1 minute'")
    assert ringer.top_up() == 0


def test_a_job_that_waits_for_its_backoff_rings_no_bell(
    job_fixture: JobFixture, ringer: Ringer
) -> None:
    workers(job_fixture, 1)
    job_fixture.submit()
    job_fixture.run("UPDATE jobs SET due_at = clock_timestamp() + interval '1 hour'")
    assert ringer.top_up() == 0


def rendered(job_fixture: JobFixture) -> Job:
    """Return a succeeded job with its files, and a leftover of a lost first attempt."""
    job = job_fixture.submit()
    for attempt in (1, 2):
        key = output_key(job.id, attempt, ".mp4")
        job_fixture.storage.put(key, b"clip", content_type="video/mp4")
    job_fixture.storage.put(input_key(job.id), b"picture", content_type="image/png")
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


def test_an_idempotency_key_is_forgotten_after_a_day(
    job_fixture: JobFixture, sweeper: Sweeper
) -> None:
    first = job_fixture.submit(idempotency_key="k", idempotency_fingerprint="f")
    sweeper.sweep()
    assert job_fixture.submit(idempotency_key="k", idempotency_fingerprint="f").id == first.id
    job_fixture.run("UPDATE jobs SET created_at = created_at - :day", day=timedelta(days=1))
    sweeper.sweep()
    assert job_fixture.submit(idempotency_key="k", idempotency_fingerprint="f").id != first.id


def drawn(age: timedelta) -> UUID:
    """Return a uuid7 as it was drawn this long ago."""
    fresh = new_id()
    return UUID(int=fresh.int - (int(age.total_seconds() * 1000) << 80))


def test_a_picture_without_a_job_goes_once_no_submit_can_still_be_on_its_way(
    job_fixture: JobFixture,
) -> None:
    orphan, owned, young = drawn(2 * GRACE), drawn(2 * GRACE), new_id()
    job_fixture.submit(id=owned)
    for job_id in (orphan, owned, young):
        job_fixture.storage.put(input_key(job_id), b"picture", content_type="image/png")
    job_fixture.storage.put("inputs/not-ours.txt", b"?", content_type="text/plain")
    assert OrphanSweeper(job_fixture.db, job_fixture.storage).sweep() == 1
    assert [_exists(job_fixture, input_key(job_id)) for job_id in (orphan, owned, young)] == [
        False,
        True,
        True,
    ]
    assert _exists(job_fixture, "inputs/not-ours.txt")


def test_orphans_are_found_page_by_page(
    job_fixture: JobFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphan_images, "PAGE", 2)
    lost = [drawn(2 * GRACE) for _ in range(5)]
    for job_id in lost:
        job_fixture.storage.put(input_key(job_id), b"picture", content_type="image/png")
    sweeper = OrphanSweeper(job_fixture.db, job_fixture.storage)
    assert [sweeper.sweep() for _ in range(4)] == [2, 2, 1, 0]
