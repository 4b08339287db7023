"""A job's images may be parts, uploads or frames of the owner's clips; a job may have several."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image

from shared.errors import Gone
from shared.jobs.inputs import Input
from shared.jobs.job import Job
from shared.jobs.storage_keys import INPUTS
from tests.support.gateway import (
    MOVES,
    FakeWorker,
    Gateway,
    data_uri,
    encoded,
)
from worker.video.metadata import Tags
from worker.video.writer import Mp4Writer

KEYS = MOVES.model_copy(
    update={"name": "keys", "honours": ("last_frame", "keyframes", "focus", "fit_blur")}
)
LEVELS = (40, 80, 120, 160, 200, 230, 20, 100)


def clip(folder: Path) -> bytes:
    """Return an MP4 with one flat frame of each level."""
    path = folder / "clip.mp4"
    tags = Tags(settings={}, title="", description="")
    with Mp4Writer(path, width=64, height=48, fps=8, tags=tags) as writer:
        for level in LEVELS:
            writer.write(np.full((1, 48, 64, 3), (level, 60, 200 - level // 2), np.uint8))
    return path.read_bytes()


def refused(answer: requests.Response) -> tuple[int, str, str | None]:
    body = answer.json()
    return answer.status_code, body["code"], body.get("error", {}).get("param")


def pixel(png: bytes) -> tuple[int, ...]:
    with Image.open(io.BytesIO(png)) as image:
        return tuple(int(value) for value in np.asarray(image.convert("RGB"))[10, 10])


def stored(fake_worker: FakeWorker, prefix: str) -> list[str]:
    return fake_worker.storage.keys(prefix, after="", limit=100)


@pytest.fixture
def finished(gateway: Gateway, fake_worker: FakeWorker, tmp_path: Path) -> dict[str, Any]:
    """A job whose clip has 8 flat frames."""
    job = gateway.created(num_frames="8")
    fake_worker.complete(fake_worker.claim(), clip(tmp_path))
    return job


@pytest.mark.parametrize("frame", [0, 3, 7, -1, -8])
def test_a_frame_of_ones_own_clip_begins_the_next(
    gateway: Gateway, finished: dict[str, Any], frame: int
) -> None:
    image = {"job_id": finished["id"], "frame": frame}
    answer = gateway.post("/v1/jobs", json={"image": image})
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert (job["input"]["image_width"], job["input"]["image_height"]) == (64, 48)
    kept = gateway.get(f"/v1/jobs/{job['id']}/content?variant=input").content
    level = LEVELS[frame]
    assert np.allclose(pixel(kept), (level, 60, 200 - level // 2), atol=6)


@pytest.mark.parametrize("frame", [8, -9, 10**12])
def test_a_frame_beyond_the_clip_is_refused_in_words(
    gateway: Gateway, finished: dict[str, Any], frame: int
) -> None:
    image = {"job_id": finished["id"], "frame": frame}
    answer = gateway.post("/v1/jobs", json={"image": image})
    assert refused(answer) == (422, "invalid_request", "image.frame")
    assert "it has 8, 0 to 7, or -8 to -1 from its end" in answer.json()["detail"]


def test_a_frame_of_a_clip_that_is_not_there_is_refused(
    gateway: Gateway, fake_worker: FakeWorker, finished: dict[str, Any]
) -> None:
    def ask(job_id: str) -> requests.Response:
        return gateway.post("/v1/jobs", json={"image": {"job_id": job_id, "frame": 0}})

    assert refused(ask(f"job_{7:032x}")) == (422, "invalid_request", "image.job_id")
    queued = gateway.created()
    assert ask(queued["id"]).json()["code"] == "job_not_ready"
    with fake_worker.db.begin() as connection:
        connection.exec_driver_sql("UPDATE jobs SET expired_at = clock_timestamp()")
    assert ask(finished["id"]).status_code == 410


@pytest.fixture
def keys(gateway: Gateway, fake_worker: FakeWorker) -> Iterator[Gateway]:
    """A gateway beside a worker whose engine `keys` takes keyframes and a last frame."""
    fake_worker.offer(MOVES, KEYS)
    yield gateway
    fake_worker.clear()


def flat(level: int) -> bytes:
    return encoded(Image.new("RGB", (64, 48), (level,) * 3), "PNG")


def given(keys: Gateway, **fields: Any) -> requests.Response:
    files = {name: flat(level) for name, level in (("image", 10), ("a", 20), ("b", 30), ("c", 40))}
    frames = '[{"frame": 3, "image": {"part": "a"}}, {"frame": -2, "image": {"part": "b"}}]'
    data = {"model": "keys", "keyframes": frames, "last_frame[part]": "c"} | fields
    return keys.post("/v1/jobs", data=data, files=files)


def test_a_job_may_be_given_several_images(keys: Gateway, fake_worker: FakeWorker) -> None:
    answer = given(keys)
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert (job["input"]["keyframes"], job["input"]["last_frame"]) == ([3, 14], True)
    levels = {"image": 10, "keyframe_3": 20, "keyframe_14": 30, "last_frame": 40}
    path = f"/v1/jobs/{job['id']}/content?variant=input"
    for name, level in levels.items():
        assert pixel(keys.get(f"{path}&name={name}").content) == (level,) * 3
    missing = keys.get(f"{path}&name=keyframe_4")
    assert missing.status_code == 404
    assert "it has image, keyframe_14, keyframe_3, last_frame" in missing.json()["detail"]
    claimed = fake_worker.jobs.claim({"keys": KEYS.honours}, worker="hand")
    assert claimed is not None
    assert {each.name for each in claimed.inputs} == set(levels)
    assert keys.http.delete(f"{keys.url}/v1/jobs/{job['id']}", timeout=30).status_code == 204
    assert stored(fake_worker, INPUTS) == []


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ('[{"frame": 16, "image": {"part": "a"}}]', "no frame 16; it has 16, 0 to 15"),
        ('[{"frame": 0, "image": {"part": "a"}}]', "frame 0 is given by image already"),
        ('[{"frame": -1, "image": {"part": "a"}}]', "frame -1 is given by last_frame already"),
        (
            '[{"frame": 3, "image": {"part": "a"}}, {"frame": -13, "image": {"part": "a"}}]',
            "frame -13 is given by another keyframe already",
        ),
    ],
)
def test_keyframes_that_cannot_be_are_refused_in_words(
    keys: Gateway, fake_worker: FakeWorker, frames: str, reason: str
) -> None:
    files = {"image": flat(1), "a": flat(2), "last_frame": flat(3)}
    answer = keys.post("/v1/jobs", data={"model": "keys", "keyframes": frames}, files=files)
    assert refused(answer) == (422, "invalid_request", "keyframes")
    assert reason in answer.json()["detail"]
    assert stored(fake_worker, INPUTS) == []


def test_an_engine_that_takes_no_more_images_says_which_does(keys: Gateway) -> None:
    for field in ({"last_frame": flat(3)}, {"image": flat(1), "last_frame": flat(3)}):
        answer = keys.post("/v1/jobs", data={"model": "moves"}, files={"image": flat(1)} | field)
        assert refused(answer) == (422, "invalid_request", "last_frame")
        assert "moves takes no last_frame" in answer.json()["detail"]
        assert "ask for model keys" in answer.json()["detail"]


def test_a_bad_second_image_is_named(keys: Gateway, fake_worker: FakeWorker) -> None:
    files = {"image": flat(1), "last_frame": b"no image"}
    answer = keys.post("/v1/jobs", data={"model": "keys"}, files=files)
    assert refused(answer) == (415, "unsupported_image", "last_frame")
    assert stored(fake_worker, INPUTS) == []


def test_the_same_key_with_another_last_frame_is_refused(keys: Gateway) -> None:
    def send(level: int) -> requests.Response:
        files = {"image": flat(1), "last_frame": flat(level)}
        headers = {"Idempotency-Key": "k"}
        return keys.post("/v1/jobs", data={"model": "keys"}, files=files, headers=headers)

    first = send(2)
    assert send(2).json()["id"] == first.json()["id"]
    assert send(3).json()["code"] == "idempotency_conflict"


def test_a_retry_has_the_same_seed_and_its_own_copies(
    keys: Gateway, fake_worker: FakeWorker
) -> None:
    first = given(keys, prompt="push in", seed="77", **{"metadata[post]": "9"}).json()
    answer = keys.post(f"/v1/jobs/{first['id']}/retry")
    assert answer.status_code == 202, answer.text
    again = answer.json()
    assert (again["parent_id"], again["seed"], again["metadata"]) == (
        first["id"],
        77,
        {"post": "9"},
    )
    assert again["input"] == first["input"]
    assert again["warnings"] == []
    keys.http.delete(f"{keys.url}/v1/jobs/{first['id']}", timeout=30)
    assert len(stored(fake_worker, INPUTS)) == 4
    for name in ("image", "keyframe_3", "keyframe_14", "last_frame"):
        path = f"/v1/jobs/{again['id']}/content?variant=input&name={name}"
        assert keys.get(path).status_code == 200


def test_a_retry_takes_changes(gateway: Gateway) -> None:
    first = gateway.created(prompt="push in", seed="77", num_frames="24", resolution="256p")
    path = f"/v1/jobs/{first['id']}/retry"
    changes = {"prompt": "tilt up", "seed": 5, "seconds": 2, "width": 128, "priority": "high"}
    again = gateway.post(path, json=changes).json()
    assert (again["seed"], again["priority"]) == (5, "high")
    told = again["input"]
    assert (told["prompt"], told["num_frames"], told["width"], told["resolution"]) == (
        "tilt up",
        16,
        128,
        None,
    )
    assert gateway.post(path, json={"seed": None}).json()["seed"] != 77
    wrong = gateway.post(path, json={"num_frames": 99})
    assert refused(wrong) == (422, "invalid_request", "num_frames")
    assert refused(gateway.post(path, json={"modle": "x"}))[1] == "unknown_parameter"


def test_a_retry_is_idempotent_and_410_after_expiry(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    first = gateway.created()
    path, headers = f"/v1/jobs/{first['id']}/retry", {"Idempotency-Key": "again"}
    one, two = (gateway.post(path, headers=headers) for _ in range(2))
    assert one.json()["id"] == two.json()["id"] != first["id"]
    assert two.headers["Idempotency-Replayed"] == "true"
    other = gateway.post(path, headers=headers, json={"seed": 1})
    assert other.json()["code"] == "idempotency_conflict"
    with fake_worker.db.begin() as connection:
        connection.exec_driver_sql("UPDATE jobs SET expired_at = clock_timestamp()")
    assert gateway.post(path).status_code == 410
    assert gateway.post(path, headers=headers).json()["id"] == one.json()["id"]


def test_a_retry_whose_image_is_gone_is_410_and_leaves_nothing(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    first = gateway.created()
    fake_worker.storage.delete_prefix(INPUTS)
    answer = gateway.post(f"/v1/jobs/{first['id']}/retry")
    assert answer.status_code == 410
    assert len(gateway.get("/v1/jobs").json()["data"]) == 1
    assert stored(fake_worker, INPUTS) == []


def test_seconds_become_the_frames_an_engine_makes(gateway: Gateway) -> None:
    exact = gateway.created(seconds="2", fps="12")
    assert (exact["input"]["num_frames"], exact["warnings"]) == (24, [])
    near = gateway.created(seconds="2.3")
    assert (near["input"]["num_frames"], near["input"]["seconds"]) == (18, 2.25)
    assert near["warnings"] == ["seconds 2.3 became 2.25: moves makes 18 frames at 8 fps"]
    assert gateway.created(seconds="60")["input"]["seconds"] == 4.0
    assert gateway.created(seconds="2", num_frames="16")["input"]["num_frames"] == 16
    both = gateway.create(seconds="3", num_frames="16")
    assert refused(both) == (422, "invalid_request", "seconds")
    assert "num_frames 16 at 8 fps is 2 s, and seconds says 3" in both.json()["detail"]


def test_a_new_field_waits_for_a_worker_that_honours_it(
    keys: Gateway, fake_worker: FakeWorker
) -> None:
    """If gateways are updated first, an old worker renders only jobs whose fields it knows."""
    wanted = keys.created(model="keys", focus="0.5,0.2")
    plain = keys.created(model="keys")
    old, new = {"keys": ("keyframes",)}, {"keys": KEYS.honours}
    first = fake_worker.jobs.claim(old, worker="old")
    assert first is not None
    assert first.public_id == plain["id"]
    assert fake_worker.jobs.claim(["keys"], worker="older") is None
    last = fake_worker.jobs.claim(new, worker="new")
    assert last is not None
    assert last.public_id == wanted["id"]
    assert (last.needs, last.parameters.focus) == (("focus",), (0.5, 0.2))


def test_workers_first_render_the_jobs_of_an_older_gateway(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    """An older gateway writes no rows of inputs, and it does not know needs."""
    made = gateway.created()
    with fake_worker.db.begin() as connection:
        connection.exec_driver_sql("DELETE FROM inputs")
        connection.exec_driver_sql(
            "UPDATE jobs SET parameters = parameters - 'focus' - 'keyframes' - 'last_frame'"
        )
    job = fake_worker.claim()
    assert job.inputs == (first_of(job),)
    assert fake_worker.storage.get(job.inputs[0].key)
    path = f"/v1/jobs/{made['id']}"
    assert gateway.get(f"{path}/content?variant=input").status_code == 200
    assert gateway.get(path).json()["input"]["focus"] == [0.5, 0.5]
    assert gateway.http.delete(f"{gateway.url}{path}", timeout=30).status_code == 204
    with pytest.raises(Gone):
        fake_worker.storage.get(job.inputs[0].key)


def first_of(job: Job) -> Input:
    return Input.first(
        job.id, sha256=job.image_sha256, width=job.image_width, height=job.image_height
    )


def test_what_an_engine_does_not_honour_is_said(gateway: Gateway) -> None:
    told = gateway.created(focus="0.1,0.1")
    assert told["warnings"] == ["focus was ignored: moves does not use it"]
    assert told["input"]["focus"] == [0.5, 0.5]
    blur = gateway.create(fit="blur")
    assert refused(blur) == (422, "invalid_request", "fit")
    assert "it takes crop or pad" in blur.json()["detail"]


def test_data_and_parts_go_together(keys: Gateway) -> None:
    body = {"model": "keys", "image": data_uri(flat(5)), "last_frame": {"data": data_uri(flat(6))}}
    job = keys.post("/v1/jobs", json=body).json()
    path = f"/v1/jobs/{job['id']}/content?variant=input&name=last_frame"
    assert pixel(keys.get(path).content) == (6, 6, 6)
