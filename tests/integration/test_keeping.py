"""What the keeper mends: expiry, deleted jobs' files, leftovers of lost attempts."""

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import pytest

from shared.errors import Gone
from shared.job import Artifact, Job, Result, Variant, input_key, new_id, output_key
from shared.jobs import Claim
from shared.lifecycle import Status
from shared.tables import ANONYMOUS
from tests.factory import Desk
from tests.stack import Stack
from worker import orphans
from worker.orphans import GRACE, OrphanSweeper
from worker.sweep import Sweeper


@pytest.fixture
def desk(stack: Stack) -> Iterator[Desk]:
    desk = Desk(stack.settings())
    yield desk
    desk.close()


@pytest.fixture
def sweeper(desk: Desk) -> Sweeper:
    return Sweeper(desk.db, desk.storage, desk.settings)


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


def test_an_idempotency_key_is_forgotten_after_a_day(desk: Desk, sweeper: Sweeper) -> None:
    first = desk.submit(idempotency_key="k", idempotency_fingerprint="f")
    sweeper.sweep()
    assert desk.submit(idempotency_key="k", idempotency_fingerprint="f").id == first.id
    desk.run("UPDATE jobs SET created_at = created_at - :day", day=timedelta(days=1))
    sweeper.sweep()
    assert desk.submit(idempotency_key="k", idempotency_fingerprint="f").id != first.id


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
