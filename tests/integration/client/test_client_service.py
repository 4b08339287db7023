"""The client and the command against a real gateway; the test plays the worker."""

import asyncio
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.jobs.job import Job
from shared.lifecycle import Status
from stillreel import AsyncClient, Client, Conflict, InvalidRequest, JobCanceled, NotFound, Refused
from tests.support.command import Terminal, piped
from tests.support.gateway import (
    ADMIN_KEY,
    FakeWorker,
    Gateway,
    beside,
    photo_png,
    running_gateway,
)
from tests.support.processes import until
from tests.support.stack import Stack

PHOTO = photo_png()


@pytest.fixture
def client(gateway: Gateway) -> Iterator[Client]:
    with Client(gateway.url) as client:
        yield client


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photo.png").write_bytes(PHOTO)
    return tmp_path


def rendered(worker: FakeWorker) -> Job:
    """Render the next job with some progress, and return it."""
    job = worker.claim()
    worker.beat(job, 3)
    worker.complete(job, b"an mp4")
    return job


def test_a_photo_and_a_sentence_become_a_clip(
    client: Client, fake_worker: FakeWorker, folder: Path
) -> None:
    work = beside(lambda: rendered(fake_worker))
    seen: list[str] = []
    clip = client.generate(
        folder / "photo.png",
        "slow push in",
        on_change=lambda job: seen.append(job.status),
        num_frames=24,
        outputs=["gif"],
        metadata={"shelf": "A 3"},
    )
    saved = clip.save(folder / "clip.mp4")
    assert saved.read_bytes() == clip.read() == b"an mp4"
    assert clip.read(variant="gif") == b"gif"
    assert clip.job.id == work.result(30).public_id
    assert clip.job.input["num_frames"] == 24
    assert clip.job.metadata == {"shelf": "A 3"}
    assert clip.job.output is not None
    assert clip.job.output.video.sha256 == hashlib.sha256(b"an mp4").hexdigest()
    assert seen[-1] == "succeeded"


def test_ten_clips_are_awaited_at_once(gateway: Gateway, fake_worker: FakeWorker) -> None:
    async def make() -> list[bytes]:
        async with AsyncClient(gateway.url) as client:
            clips = await asyncio.gather(
                *(client.generate(PHOTO, "pan left", seed=number) for number in range(10))
            )
            listed = {job.id async for job in client.jobs(status="succeeded")}
            assert listed == {clip.job.id for clip in clips}
            return await asyncio.gather(*(clip.read() for clip in clips))

    work = beside(lambda: [rendered(fake_worker) for _ in range(10)])
    assert asyncio.run(make()) == [b"an mp4"] * 10
    assert len(work.result(30)) == 10


def test_a_job_is_followed_through_its_changes_to_its_end(
    client: Client, fake_worker: FakeWorker
) -> None:
    made = client.submit(PHOTO, "pan left")
    changes = client.follow(made.id)
    assert next(changes).status == "queued"
    job = fake_worker.claim()
    assert next(changes).status == "running"
    fake_worker.beat(job, 4)
    stepped = next(changes)
    assert (stepped.stage, stepped.progress.step) == ("denoising", 4)
    fake_worker.complete(job)
    assert [job.status for job in changes] == ["succeeded"]


def test_one_key_makes_one_job(client: Client, fake_worker: FakeWorker) -> None:
    first = client.submit(PHOTO, "pan left", idempotency_key="mine")
    assert client.submit(PHOTO, "pan left", idempotency_key="mine").id == first.id
    with pytest.raises(InvalidRequest, match="another request"):
        client.submit(PHOTO, "pan right", idempotency_key="mine")
    assert [job.id for job in client.jobs()] == [first.id]


def test_a_canceled_job_raises_and_a_finished_one_is_not_canceled(
    client: Client, fake_worker: FakeWorker
) -> None:
    waiting = beside(lambda: client.generate(PHOTO, "pan left"))
    job = until(lambda: next(client.jobs(), None), "the job is there")
    assert client.cancel(job.id).status == "canceled"
    with pytest.raises(JobCanceled):
        waiting.result(60)
    made = client.submit(PHOTO, "pan left")
    rendered(fake_worker)
    with pytest.raises(Conflict):
        client.cancel(made.id)
    client.delete(made.id)
    with pytest.raises(NotFound):
        client.job(made.id)


def test_the_services_own_words_are_the_error(client: Client) -> None:
    with pytest.raises(InvalidRequest, match="num_frames") as told:
        client.submit(PHOTO, "x", num_frames=9999)
    assert told.value.param == "num_frames"
    with pytest.raises(InvalidRequest) as told:
        client.submit(b"no photo at all", "x")
    assert told.value.code == "unsupported_image"


def test_a_photo_behind_a_url_is_fetched_by_the_service(client: Client) -> None:
    with pytest.raises(Refused) as told:
        client.submit("http://127.0.0.1/photo.png", "x")
    assert told.value.param == "image.url"


def test_models_and_queue_are_told(client: Client, fake_worker: FakeWorker) -> None:
    assert [model.id for model in client.models()] == ["moves", "model"]
    assert client.models()[0].parameters["properties"]["num_frames"]
    assert {line["model"] for line in client.queue()["data"]} == {"moves", "model"}


def test_an_admin_makes_rotates_and_revokes_keys(stack: Stack) -> None:
    with (
        FakeWorker.on(stack),
        running_gateway(stack.settings(admin_key=ADMIN_KEY)) as gateway,
        Client(gateway.url, ADMIN_KEY) as admin,
    ):
        made = admin.create_key("cms", max_queued=3)
        assert made.key.startswith("sr_")
        assert made.key not in repr(made)
        with Client(gateway.url, made.key) as cms:
            assert list(cms.jobs()) == []
            with pytest.raises(Refused, match="admin"):
                cms.list_keys()
        rotated = admin.rotate_key(made.id)
        assert rotated.key != made.key
        assert [key.name for key in admin.list_keys()] == ["cms"]
        assert admin.revoke_key(made.id).revoked_at is not None
        with Client(gateway.url, rotated.key) as cms, pytest.raises(Refused) as told:
            list(cms.jobs())
        assert told.value.status == 401


def test_submit_in_a_pipe_saves_the_clip_and_prints_the_job(
    gateway: Gateway, fake_worker: FakeWorker, folder: Path
) -> None:
    beside(lambda: rendered(fake_worker))
    told = piped(gateway.url, "submit", "photo.png", "pan left", "-o", "out.mp4", folder=folder)
    assert told.returncode == 0, told.stderr
    job = json.loads(told.stdout)
    assert (job["status"], job["saved"]) == ("succeeded", "out.mp4")
    assert (folder / "out.mp4").read_bytes() == b"an mp4"


@pytest.mark.parametrize(
    ("typed", "says", "status"),
    [("y\n", "is canceled", Status.CANCELED), ("n\n", "goes on; `", Status.RUNNING)],
)
def test_ctrl_c_asks_whether_to_cancel(
    gateway: Gateway,
    fake_worker: FakeWorker,
    folder: Path,
    typed: str,
    says: str,
    status: Status,
) -> None:
    with Terminal(gateway.url, "submit", "photo.png", "pan left", folder=folder) as terminal:
        job = fake_worker.claim()
        fake_worker.beat(job, 3)
        assert "denoising 3/10" in terminal.until("40 s left")
        terminal.type("\x03")
        terminal.until("Cancel it? [y/N]")
        terminal.type(typed)
        terminal.until(says)
        assert terminal.end() == 130
    shown: dict[str, Any] = gateway.get(f"/v1/jobs/{job.public_id}").json()
    assert shown["status"] == status
    assert not (folder / "photo.mp4").exists()


def test_cancel_and_download_take_a_jobs_id(
    gateway: Gateway, client: Client, fake_worker: FakeWorker, folder: Path
) -> None:
    first = client.submit(PHOTO, "pan left", outputs=["gif"])
    rendered(fake_worker)
    second = client.submit(PHOTO, "pan left")
    told = piped(gateway.url, "cancel", first.id, second.id, folder=folder)
    assert told.returncode == 1
    assert [job["id"] for job in json.loads(told.stdout)] == [second.id]
    assert re.search(f"{first.id}.*succeeded|{first.id}.*ended", told.stderr)
    told = piped(gateway.url, "download", first.id, "--variant", "gif", folder=folder)
    assert json.loads(told.stdout)["saved"] == f"{first.id}.gif"
    assert (folder / f"{first.id}.gif").read_bytes() == b"gif"
