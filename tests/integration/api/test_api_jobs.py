"""Creating, looking at, listing, canceling and deleting jobs over HTTP."""

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from shared.errors import Gone, OutOfMemory
from shared.jobs.job import parse_id
from shared.jobs.storage_keys import input_key
from tests.support.gateway import (
    MODEL,
    MOVES,
    FakeWorker,
    Gateway,
    data_uri,
    photo_png,
    running_gateway,
)
from tests.support.stack import Stack


def test_an_image_and_a_sentence_become_a_queued_job(gateway: Gateway) -> None:
    answer = gateway.create(prompt="push in", num_frames="24", **{"metadata[post]": "17"})
    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"{gateway.url}/v1/jobs/{job['id']}"
    assert int(answer.headers["Retry-After"]) >= 1
    assert (job["object"], job["status"], job["model"]) == ("job", "queued", "moves")
    assert job["queue"]["position"] >= 1
    assert job["metadata"] == {"post": "17"}
    assert (job["input"]["num_frames"], job["input"]["fps"]) == (24, 8)
    assert (job["input"]["width"], job["input"]["height"]) == (768, 512)
    polled = gateway.get(f"/v1/jobs/{job['id']}").json()
    assert polled.pop("expected").keys() == job.pop("expected").keys()  # It follows the clock.
    assert polled == job


def test_json_with_a_data_uri_makes_the_same_job_as_a_form(gateway: Gateway) -> None:
    by_form = gateway.created(prompt="tilt up", seed="5")
    body = {"image": {"data": data_uri(photo_png())}, "prompt": "tilt up", "seed": 5}
    answer = gateway.post("/v1/jobs", json=body)
    assert answer.status_code == 202
    assert answer.json()["input"] == by_form["input"]
    assert answer.json()["seed"] == by_form["seed"] == 5


def test_a_seed_is_drawn_and_returned_when_none_is_given(gateway: Gateway) -> None:
    seeds = {gateway.created()["seed"] for _ in range(3)}
    assert len(seeds) == 3
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_the_stored_image_is_the_one_that_was_sent(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    sent = photo_png(size=(120, 90))
    job = gateway.created(image=sent)
    stored = fake_worker.storage.get(input_key(parse_id(job["id"])))
    assert hashlib.sha256(stored).hexdigest() == job["input"]["image_sha256"]
    assert np.array_equal(
        np.asarray(Image.open(io.BytesIO(stored))), np.asarray(Image.open(io.BytesIO(sent)))
    )


def test_a_hostile_file_name_is_never_used(gateway: Gateway, fake_worker: FakeWorker) -> None:
    files = {"image": ("../../etc/passwd\0.png", photo_png())}
    answer = gateway.post("/v1/jobs", files=files)
    assert answer.status_code == 202
    assert "passwd" not in answer.text
    assert fake_worker.storage.get(input_key(parse_id(answer.json()["id"])))


def test_the_model_is_chosen_by_name_and_its_own_limits_hold(gateway: Gateway) -> None:
    assert gateway.created(model="model", prompt="x")["input"]["width"] == 768
    refused = gateway.create(model="model")
    assert (refused.status_code, refused.json()["param"]) == (422, "prompt")
    unknown = gateway.create(model="sora")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_model")
    assert "moves, model" in unknown.json()["detail"]


def test_a_model_that_was_taught_english_warns_of_chinese(gateway: Gateway) -> None:
    job = gateway.created(model=MODEL.name, prompt="镜头缓慢推进")
    assert any("English only" in warning for warning in job["warnings"])
    assert gateway.created(model=MOVES.name, prompt="镜头缓慢推进")["warnings"] == []


def test_a_wrong_field_names_itself_and_nothing_is_stored(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    refused = gateway.create(num_frames="900")
    problem = refused.json()
    assert refused.status_code == 422
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert (problem["code"], problem["param"]) == ("invalid_request", "num_frames")
    assert problem["detail"] == "num_frames 900 is out of range for moves; it takes 8 to 32"
    assert problem["error"] == {
        "code": "invalid_request",
        "message": problem["detail"],
        "type": "invalid_request_error",
        "param": "num_frames",
    }
    assert gateway.get("/v1/jobs").json()["data"] == []
    assert fake_worker.storage.delete_prefix("inputs/") == 0


@pytest.mark.parametrize(
    ("image", "status", "code"),
    [
        (b"not an image", 415, "unsupported_image"),
        (photo_png()[:2000], 422, "truncated_image"),
        (b"", 422, "invalid_request"),
    ],
)
def test_a_bad_image_is_the_clients_error(
    gateway: Gateway, image: bytes, status: int, code: str
) -> None:
    refused = gateway.create(image=image)
    assert (refused.status_code, refused.json()["code"]) == (status, code)
    assert refused.json()["param"] == "image"


def test_retention_may_be_shortened_and_not_extended(gateway: Gateway) -> None:
    assert gateway.create(retain_seconds="3600").status_code == 202
    refused = gateway.create(retain_seconds=str(10**12))
    assert (refused.status_code, refused.json()["param"]) == (422, "retain_seconds")


def test_a_job_is_followed_from_queue_to_clip(gateway: Gateway, fake_worker: FakeWorker) -> None:
    job_id = gateway.created(model="model", prompt="x", outputs="gif")["id"]
    job = fake_worker.claim("model")
    running = gateway.get(f"/v1/jobs/{job_id}").json()
    assert (running["status"], running["attempt"]) == ("running", 1)
    fake_worker.beat(job, step=5)
    denoising = gateway.get(f"/v1/jobs/{job_id}")
    assert denoising.json()["progress"] == {
        "percent": 47,
        "step": 5,
        "total_steps": 10,
        "eta_seconds": 40.0,
    }
    assert denoising.headers["openai-poll-after-ms"] == "10000"
    fake_worker.complete(job, b"the clip")
    done = gateway.get(f"/v1/jobs/{job_id}")
    video = done.json()["output"]["video"]
    progress = done.json()["progress"]
    assert (done.json()["status"], progress["percent"]) == ("succeeded", 100)
    assert (progress["step"], progress["total_steps"]) == (10, 10)
    assert "Retry-After" not in done.headers
    assert gateway.http.get(video["url"], timeout=60).content == b"the clip"
    assert done.json()["output"]["gif"]["content_type"] == "image/gif"


def test_a_failed_job_says_why(gateway: Gateway, fake_worker: FakeWorker) -> None:
    job_id = gateway.created()["id"]
    fake_worker.fail(fake_worker.claim(), OutOfMemory("the clip needs 20 GB; try 256p"))
    failed = gateway.get(f"/v1/jobs/{job_id}").json()
    assert failed["status"] == "failed"
    assert failed["error"] == {
        "code": "gpu_out_of_memory",
        "message": "the clip needs 20 GB; try 256p",
        "retryable": False,
    }


def test_cancel_is_final_and_may_be_said_twice(gateway: Gateway, fake_worker: FakeWorker) -> None:
    job_id = gateway.created()["id"]
    first = gateway.post(f"/v1/jobs/{job_id}/cancel")
    again = gateway.post(f"/v1/jobs/{job_id}/cancel")
    assert (first.status_code, first.json()["status"]) == (200, "canceled")
    assert again.json() == first.json()


def test_a_finished_job_cannot_be_canceled(gateway: Gateway, fake_worker: FakeWorker) -> None:
    job_id = gateway.created()["id"]
    fake_worker.complete(fake_worker.claim())
    refused = gateway.post(f"/v1/jobs/{job_id}/cancel")
    assert (refused.status_code, refused.json()["code"]) == (409, "job_terminal")
    assert refused.headers["x-should-retry"] == "false"


def test_a_deleted_job_and_its_files_are_gone(gateway: Gateway, fake_worker: FakeWorker) -> None:
    job_id = gateway.created()["id"]
    done = fake_worker.complete(fake_worker.claim())
    assert done.result is not None
    answer = gateway.http.delete(f"{gateway.url}/v1/jobs/{job_id}", timeout=60)
    assert (answer.status_code, answer.content) == (204, b"")
    for path in ("", "/content", "/cancel"):
        gone = (gateway.post if path == "/cancel" else gateway.get)(f"/v1/jobs/{job_id}{path}")
        assert (gone.status_code, gone.json()["code"]) == (404, "not_found")
    for key in (input_key(done.id), *(a.key for a in done.result.artifacts.values())):
        with pytest.raises(Gone):
            fake_worker.storage.get(key)


def test_a_live_job_is_canceled_by_its_deletion(gateway: Gateway, fake_worker: FakeWorker) -> None:
    job_id = gateway.created()["id"]
    gateway.http.delete(f"{gateway.url}/v1/jobs/{job_id}", timeout=60)
    assert gateway.get("/v1/jobs").json()["data"] == []
    assert fake_worker.jobs.claim([MOVES.name], worker="hand") is None


@pytest.mark.parametrize(
    "job_id",
    [
        "job_",
        "job_xyz",
        "job_01a20366cbd276a0ab418906a751ca87",
        "batch_1",
        "job_" + "0" * 33,
        "%00",
        "ü",
    ],
)
def test_missing_and_malformed_ids_get_the_same_answer(gateway: Gateway, job_id: str) -> None:
    answer = gateway.get(f"/v1/jobs/{job_id}")
    assert answer.status_code == 404
    assert (answer.json()["code"], answer.json()["detail"]) == ("not_found", "no such job")


def test_a_full_queue_is_told_and_leaves_no_image(
    module_stack: Stack, fake_worker: FakeWorker
) -> None:
    settings = module_stack.settings(max_queued_per_key=1)
    with running_gateway(settings) as strict:
        strict.created()
        answer = strict.create()
    assert (answer.status_code, answer.json()["code"]) == (429, "queue_full")
    assert answer.json()["error"]["type"] == "rate_limit_error"
    assert int(answer.headers["Retry-After"]) > 0
    assert fake_worker.storage.delete_prefix("inputs/") == 1
