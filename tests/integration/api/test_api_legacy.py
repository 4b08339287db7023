"""The one-call client posts a form, waits, and gets a path that it can download."""

import socket
from concurrent.futures import Future
from typing import Any

import requests

from shared.errors import OutOfMemory
from tests.support.gateway import FakeWorker, Gateway, beside, photo_png, running_gateway
from tests.support.processes import until
from tests.support.stack import Stack

FORM = {
    "prompt": "the camera pushes in",
    "num_frames": 16,
    "fps": 8,
    "resolution": "512p",
    "steps": 50,
    "guidance_scale": 9.0,
}


def generate(gateway: Gateway, **headers: str) -> requests.Response:
    """Send the request of the legacy client."""
    return requests.post(
        f"{gateway.url}/generate",
        files={"image": photo_png()},
        data=FORM,
        headers=headers,
        timeout=60,
    )


def generating(gateway: Gateway) -> "Future[requests.Response]":
    return beside(lambda: generate(gateway))


def test_a_form_comes_back_as_a_path_that_downloads(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    call = generating(gateway)
    job = fake_worker.claim()
    assert (job.source, job.parameters.num_inference_steps) == ("legacy", 50)
    fake_worker.complete(job, b"the clip")
    answer = call.result(timeout=60)
    assert answer.status_code == 200
    link = answer.json()["video_url"]
    assert requests.get(link, timeout=60).content == b"the clip"
    assert answer.json() == {
        "output_path": f"outputs/{job.public_id}.mp4",
        "job_id": job.public_id,
        "status": "succeeded",
        "video_url": link,
        "seed": job.parameters.seed,
        "width": 768,
        "height": 512,
        "num_frames": 16,
        "fps": 8,
    }
    assert answer.headers["Deprecation"].startswith("@")
    assert answer.headers["Link"] == '</v1/jobs>; rel="successor-version"'
    clip = gateway.get(f"/{answer.json()['output_path']}")
    assert (clip.content, clip.headers["Content-Type"]) == (b"the clip", "video/mp4")
    part = gateway.get(f"/{answer.json()['output_path']}", headers={"Range": "bytes=4-7"})
    assert (part.status_code, part.content) == (206, b"clip")


def test_a_failed_render_is_a_500_with_its_own_code(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    call = generating(gateway)
    job = fake_worker.claim()
    fake_worker.fail(job, OutOfMemory("the clip needs 20 GB; try 256p"))
    assert problem(call.result(timeout=60)) == {
        "status": 500,
        "code": "gpu_out_of_memory",
        "detail": "the clip needs 20 GB; try 256p",
        "job_id": job.public_id,
    }


def test_a_job_canceled_meanwhile_is_a_conflict(gateway: Gateway, fake_worker: FakeWorker) -> None:
    call = generating(gateway)
    job = fake_worker.claim()
    gateway.post(f"/v1/jobs/{job.public_id}/cancel")
    answer = call.result(timeout=60)
    assert (answer.status_code, answer.json()["job_id"]) == (409, job.public_id)


def test_past_its_time_the_job_goes_on_and_is_named(
    module_stack: Stack, fake_worker: FakeWorker
) -> None:
    settings = module_stack.settings(generate_timeout_seconds=0.5)
    with running_gateway(settings) as hasty:
        answer = generate(hasty)
        assert (answer.status_code, answer.json()["code"]) == (504, "still_rendering")
        job = fake_worker.claim()
        assert answer.json()["job_id"] == job.public_id
        fake_worker.complete(job)
        assert hasty.get(f"/outputs/{job.public_id}.mp4").status_code == 200


def test_a_client_that_hangs_up_cancels_nothing(gateway: Gateway, fake_worker: FakeWorker) -> None:
    request = requests.Request(
        "POST", f"{gateway.url}/generate", files={"image": photo_png()}, data=FORM
    ).prepare()
    assert isinstance(request.body, bytes)
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=60) as connection:
        connection.sendall(f"POST /generate HTTP/1.1\r\nHost: x\r\n{head}\r\n".encode())
        connection.sendall(request.body)
        until(lambda: len(gateway.ports.job_watcher), "the request waits")
    job = fake_worker.claim()
    assert gateway.get(f"/v1/jobs/{job.public_id}").json()["status"] == "running"
    fake_worker.complete(job)
    assert gateway.get(f"/outputs/{job.public_id}.mp4").status_code == 200


def test_a_client_may_ask_not_to_wait(gateway: Gateway) -> None:
    answer = generate(gateway, Prefer="respond-async")
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    assert answer.headers["Location"].endswith(f"/v1/jobs/{answer.json()['id']}")
    assert answer.headers["Deprecation"].startswith("@")


def test_bad_input_is_refused_at_once(gateway: Gateway) -> None:
    answer = gateway.post("/generate", files={"image": b"no image"}, data=FORM)
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_image")
    answer = gateway.post("/generate", files={"image": photo_png()}, data=FORM | {"fps": 99})
    assert (answer.status_code, answer.json()["param"]) == (422, "fps")


def test_a_full_queue_is_a_429(module_stack: Stack, fake_worker: FakeWorker) -> None:
    with running_gateway(module_stack.settings(max_queued_per_key=1)) as strict:
        strict.created()
        assert generate(strict).status_code == 429


def test_a_stopping_gateway_names_the_job_that_goes_on(
    module_stack: Stack, fake_worker: FakeWorker
) -> None:
    with running_gateway(module_stack.settings()) as gateway:
        call = generating(gateway)
        until(lambda: len(gateway.ports.job_watcher), "the request waits")
        gateway.begin_to_stop()
        answer = call.result(timeout=60)
    assert (answer.status_code, answer.json()["job_id"]) == (503, fake_worker.claim().public_id)
    assert int(answer.headers["Retry-After"]) > 0


def test_an_output_that_is_not_there_is_a_404(gateway: Gateway) -> None:
    for name in ("job_1.mp4", "job_1", "x.mp4"):
        assert gateway.get(f"/outputs/{name}").status_code == 404


def problem(answer: requests.Response) -> dict[str, Any]:
    return {name: answer.json()[name] for name in ("status", "code", "detail", "job_id")}
