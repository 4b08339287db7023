"""A job's inputs are rows; expiry, a purge and the removal of orphans apply to each of them."""

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import pytest

from shared.engines.given_images import GivenImages
from shared.engines.parameters import RequestedParameters, resolve_parameters
from shared.errors import InvalidRequest
from shared.ids import new_id
from shared.jobs.inputs import Input, keyframe_name
from shared.jobs.job import Job
from shared.jobs.storage_keys import INPUTS, UPLOADS, input_id, input_key
from shared.owners import ANONYMOUS
from shared.uploads import GRACE, LIVES, Upload, Uploads
from tests.support.factory import JobFixture
from tests.support.gateway import MOVES
from tests.support.stack import Stack
from worker.keeper.expiry import Sweeper
from worker.keeper.orphan_images import OrphanSweeper
from worker.keeper.uploads import UploadSweeper

NAMES = ("image", "last_frame", keyframe_name(3))
SPEC = MOVES.model_copy(update={"honours": ("last_frame", "keyframes")})


@pytest.fixture
def job_fixture(stack: Stack) -> Iterator[JobFixture]:
    desk = JobFixture(stack.settings())
    yield desk
    desk.close()


def with_inputs(job_fixture: JobFixture) -> Job:
    """Return a queued job with three inputs, all of them stored."""
    job_id = new_id()
    for name in NAMES:
        job_fixture.storage.put(input_key(job_id, name), b"image", content_type="image/png")
    parameters = resolve_parameters(
        SPEC,
        RequestedParameters(),
        image_width=64,
        image_height=64,
        seed=1,
        given=GivenImages(last_frame=True, keyframes=(3,)),
    )
    more = [Input(name=name, key=input_key(job_id, name), sha256="0") for name in NAMES[1:]]
    return job_fixture.submit(
        id=job_id, parameters=parameters, needs=parameters.needs, more_inputs=more
    )


def stored(job_fixture: JobFixture, prefix: str = INPUTS) -> list[str]:
    return job_fixture.storage.keys(prefix, after="", limit=100)


def all_keys(job: Job) -> list[str]:
    return sorted(input_key(job.id, name) for name in NAMES)


def test_a_job_lists_what_it_was_given(job_fixture: JobFixture) -> None:
    job = with_inputs(job_fixture)
    assert {each.key for each in job_fixture.queries.inputs(job)} == set(all_keys(job))
    assert job.needs == ("last_frame", "keyframes")
    assert job_fixture.jobs.claim(["noop"], worker="old") is None
    claimed = job_fixture.jobs.claim({"noop": SPEC.honours}, worker="new")
    assert claimed is not None
    assert {each.name for each in claimed.inputs} == set(NAMES)


def test_what_expires_goes_with_all_its_inputs(job_fixture: JobFixture) -> None:
    job, other = with_inputs(job_fixture), with_inputs(job_fixture)
    job_fixture.jobs.cancel(job.id, owner_id=ANONYMOUS)
    job_fixture.run(
        "UPDATE jobs SET expires_at = clock_timestamp(), sweep_at = clock_timestamp()"
        " WHERE id = :id",
        id=job.id,
    )
    assert Sweeper(job_fixture.db, job_fixture.storage, job_fixture.settings).sweep() == 1
    assert stored(job_fixture) == all_keys(other)


def test_the_rows_of_inputs_end_with_their_job(job_fixture: JobFixture) -> None:
    job = with_inputs(job_fixture)
    job_fixture.run("DELETE FROM jobs WHERE id = :id", id=job.id)
    assert job_fixture.run("SELECT * FROM inputs") == []


def test_inputs_that_no_job_came_to_own_are_removed(job_fixture: JobFixture) -> None:
    owned, unowned = with_inputs(job_fixture), with_inputs(job_fixture)
    # This job is of a gateway of the last release, which wrote no row.
    older = job_fixture.submit()
    job_fixture.storage.put(input_key(older.id), b"image", content_type="image/png")
    job_fixture.run("DELETE FROM inputs WHERE job_id = :id", id=older.id)
    job_fixture.run("DELETE FROM jobs WHERE id = :id", id=unowned.id)
    lost = input_key(owned.id, "keyframe_7")
    job_fixture.storage.put(lost, b"image", content_type="image/png")
    strange = f"{INPUTS}somebody/elses.png"
    job_fixture.storage.put(strange, b"image", content_type="image/png")
    sweeper = OrphanSweeper(job_fixture.db, job_fixture.storage, grace=timedelta(seconds=-5))
    assert sweeper.sweep() == 4
    assert stored(job_fixture) == sorted([*all_keys(owned), input_key(older.id), strange])


@pytest.mark.parametrize(
    ("key", "is_ours"),
    [
        (f"inputs/{7:032x}.png", True),
        (f"inputs/{7:032x}.last_frame.png", True),
        (f"inputs/{7:032x}.image.png", False),
        (f"inputs/{7:032x}.a.b.png", False),
        (f"inputs/{7:032x}", False),
        ("inputs/x.png", False),
    ],
)
def test_a_key_tells_its_job(key: str, is_ours: bool) -> None:
    assert input_id(key) == (UUID(int=7) if is_ours else None)


def uploaded(job_fixture: JobFixture, *, ago: timedelta, is_ended: bool = False) -> Upload:
    uploads = Uploads(job_fixture.db)
    upload = uploads.create(ANONYMOUS, kind="image", max_bytes=100)
    job_fixture.storage.put(upload.key, b"file", content_type="image/png")
    if is_ended:
        uploads.end(upload.id, owner_id=ANONYMOUS)
    job_fixture.run(
        "UPDATE uploads SET created_at = created_at - :ago, expires_at = expires_at - :ago"
        " WHERE id = :id",
        ago=ago,
        id=upload.id,
    )
    return upload


def test_unused_uploads_expire(job_fixture: JobFixture) -> None:
    live = uploaded(job_fixture, ago=LIVES - timedelta(minutes=1))
    in_grace = uploaded(job_fixture, ago=LIVES + GRACE / 2)
    # A client may still use its form at a public store.
    deleted = uploaded(job_fixture, ago=GRACE * 2, is_ended=True)
    uploaded(job_fixture, ago=LIVES + GRACE * 2)
    uploaded(job_fixture, ago=LIVES + GRACE * 2, is_ended=True)
    sweeper = UploadSweeper(job_fixture.db, job_fixture.storage)
    assert sweeper.sweep() == 2
    assert sweeper.sweep() == 0
    kept = sorted(upload.key for upload in (live, in_grace, deleted))
    assert stored(job_fixture, UPLOADS) == kept
    assert len(job_fixture.run("SELECT * FROM uploads")) == 3


def test_an_engine_gives_the_length_it_makes() -> None:
    """An engine that makes 4n + 1 frames, as some do, is asked for the nearest such number."""
    spec = MOVES.model_copy(
        update={"num_frames": MOVES.num_frames.model_copy(update={"low": 9, "step": 4})}
    )

    def frames(**asked: float) -> int:
        return resolve_parameters(
            spec,
            RequestedParameters.model_validate(asked),
            image_width=64,
            image_height=64,
            seed=1,
        ).num_frames

    assert [frames(seconds=s, fps=8) for s in (0.1, 1.1, 1.5, 2, 2.5, 9)] == [9, 9, 13, 17, 21, 29]
    with pytest.raises(InvalidRequest, match="it takes 9 to 32 in steps of 4"):
        frames(num_frames=16)
