"""The whole service as its users see it: `python -m local` runs it, and tests use only HTTP."""

import contextlib
import hashlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest
import requests
from standardwebhooks import Webhook

from tests.support.checkpoints import small_i2vgen_xl
from tests.support.photos import cat
from tests.support.ports import free_port
from tests.support.processes import until
from tests.support.receiver import Receiver
from tests.support.stack import ROOT

# On a busy machine, a start alone takes most of the usual two minutes.
pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]

SECONDS = 60

PERSON = {
    "prompt": "a cat turns its head and blinks",
    "resolution": "512p",
    "num_frames": 16,
    "fps": 8,
    "num_inference_steps": 60,
    "guidance_scale": 10.0,
}
LANDSCAPE = {
    "prompt": "clouds drift over the hills",
    "resolution": "768p",
    "num_frames": 24,
    "fps": 12,
    "num_inference_steps": 80,
    "guidance_scale": 9.5,
}
PRODUCT = {
    "prompt": "the product turns slowly on its stand",
    "resolution": "512p",
    "num_frames": 16,
    "fps": 8,
    "num_inference_steps": 50,
    "guidance_scale": 8.0,
}


class Service:
    """A service in its own folder, started as `make run` starts it."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.folder = folder
        named = {f"STILLREEL_{name.upper()}": str(value) for name, value in settings.items()}
        self._env = {
            **os.environ,
            "PORT": str(self.port),
            "STILLREEL_DATA_DIR": str(folder / "data"),
            # Threads of torch that spin wait for each other for seconds on a busy machine.
            "OMP_NUM_THREADS": "1",
            **named,
        }
        self._starts = 0
        self.http = requests.Session()

    def start(self) -> None:
        with (self.folder / "launcher.log").open("ab") as log:
            self.launcher = subprocess.Popen(
                [sys.executable, "-m", "local"],
                cwd=ROOT,
                env=self._env,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._starts += 1
        until(self._is_ready, "the launcher says that it is ready", within=2 * SECONDS)

    def stop(self) -> int:
        """Press Ctrl-C and return the launcher's exit status."""
        self.launcher.send_signal(signal.SIGINT)
        return self.launcher.wait(timeout=SECONDS)

    def kill(self) -> None:
        self.launcher.kill()
        self.launcher.wait(timeout=SECONDS)

    def end(self) -> None:
        """Leave nothing behind, whatever the test did."""
        self.http.close()
        if self.launcher.poll() is None and self.stop() != 0:
            sys.stderr.write((self.folder / "launcher.log").read_text()[-4000:])

    def submit(self, **fields: Any) -> dict[str, Any]:
        headers = fields.pop("headers", {})
        answer = self.http.post(
            f"{self.url}/v1/jobs",
            files={"image": ("../../etc/passwd", photo(), "image/png")},
            data=fields,
            headers=headers,
            timeout=SECONDS,
        )
        assert answer.status_code == 202, answer.text
        assert answer.headers["Location"].endswith(answer.json()["id"])
        body: dict[str, Any] = answer.json()
        return body

    def get(self, job_id: str, **query: Any) -> dict[str, Any]:
        answer = self.http.get(f"{self.url}/v1/jobs/{job_id}", params=query, timeout=2 * SECONDS)
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    def ended(self, job_id: str) -> dict[str, Any]:
        """Wait for a job's end through the API's own long poll."""
        return until(
            lambda: (job := self.get(job_id, wait=30))["finished_at"] and job,
            f"{job_id} ends",
            within=4 * SECONDS,
        )

    def content(self, job_id: str) -> bytes:
        answer = self.http.get(f"{self.url}/v1/jobs/{job_id}/content", timeout=SECONDS)
        assert answer.status_code == 200, answer.text
        return answer.content

    def worker(self) -> psutil.Process:
        """Return the supervisor's process."""
        for child in psutil.Process(self.launcher.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if child.cmdline()[1:] == ["-m", "worker"]:
                    return child
        raise AssertionError("no worker runs")

    def _is_ready(self) -> bool:
        """Trust only the launcher's word, because a killed gateway may answer for a moment."""
        said = (self.folder / "launcher.log").read_text()
        assert self.launcher.poll() is None, said
        return said.count("ready: http") == self._starts


def photo() -> bytes:
    file = io.BytesIO()
    av.VideoFrame.from_ndarray(cat(), format="rgb24").to_image().save(file, "PNG")
    return file.getvalue()


def frames(clip: bytes) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    with av.open(io.BytesIO(clip)) as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@contextlib.contextmanager
def running(folder: Path, **settings: Any) -> Iterator[Service]:
    service = Service(folder, **settings)
    try:
        service.start()
        yield service
    finally:
        service.end()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    with running(
        folder,
        engines="camera",
        outbound_allow="127.0.0.0/8",
    ) as service:
        yield service


@pytest.fixture(scope="module")
def model_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that also serves a model; its worker imports that for many seconds of a core."""
    folder = tmp_path_factory.mktemp("models")
    with running(
        folder, engines="camera,i2vgen-xl", model_dir=small_i2vgen_xl(folder / "i2vgen-xl")
    ) as service:
        yield service


def test_the_legacy_client_gets_a_moving_clip_of_its_photo(service: Service) -> None:
    answer = requests.post(
        f"{service.url}/generate",
        files={"image": photo()},
        data={
            "prompt": "zoom in",
            "num_frames": 16,
            "fps": 8,
            "resolution": "512p",
            "steps": 50,
            "guidance_scale": 9.0,
        },
        timeout=SECONDS,
    )
    assert answer.status_code == 200, answer.text
    path = answer.json()["output_path"]
    assert path == f"outputs/{answer.json()['job_id']}.mp4"
    clip = requests.get(f"{service.url}/{path}", timeout=SECONDS)
    with av.open(io.BytesIO(clip.content)) as file:
        stream = file.streams.video[0]
        assert (stream.codec_context.name, stream.average_rate) == ("h264", 8)
    shown = frames(clip.content)
    assert len(shown) == 16
    first, last = shown[0].astype(float), shown[-1].astype(float)
    assert np.abs(first - last).mean() > 2  # The clip moves,
    assert np.corrcoef(first.ravel(), last.ravel())[0, 1] > 0.5  # and it shows the same photo.


# In each run tests/integration/worker/test_previews.py lets a worker render with a model.
@pytest.mark.extended
@pytest.mark.parametrize(
    "case",
    [
        pytest.param(PERSON, id="person"),
        pytest.param(LANDSCAPE, id="landscape"),
        pytest.param(PRODUCT, id="product"),
    ],
)
def test_the_missions_cases_render_by_their_own_figures(
    model_service: Service, case: dict[str, Any]
) -> None:
    service = model_service
    job = service.ended(service.submit(model="i2vgen-xl", **case)["id"])
    assert job["status"] == "succeeded", job["error"]
    shown = {name: job["input"][name] for name in case}
    assert shown == case
    clip = service.content(job["id"])
    video = job["output"]["video"]
    assert hashlib.sha256(clip).hexdigest() == video["sha256"]
    assert (video["num_frames"], video["fps"]) == (case["num_frames"], case["fps"])
    assert min(video["width"], video["height"]) == int(case["resolution"][:-1])
    assert len(frames(clip)) == case["num_frames"]
    assert job["output"]["ai_generated"] is True


# In each run tests/integration/i2vgen/test_i2vgen_clips.py checks this for the engine alone.
@pytest.mark.extended
def test_the_same_seed_gives_the_same_frames_and_another_gives_others(
    model_service: Service,
) -> None:
    service = model_service
    wish = {"model": "i2vgen-xl", "prompt": "wind", "num_inference_steps": 4, "resolution": "256p"}
    first = service.ended(service.submit(**wish)["id"])
    again = service.ended(service.submit(**wish, seed=first["seed"])["id"])
    other = service.ended(service.submit(**wish, seed=(first["seed"] + 1) % 2**32)["id"])
    shown = [np.stack(frames(service.content(job["id"]))) for job in (first, again, other)]
    assert np.array_equal(shown[0], shown[1])
    assert not np.array_equal(shown[0], shown[2])


def test_the_end_of_a_job_reaches_its_webhook_signed_once(
    service: Service, receiver: Receiver
) -> None:
    job = service.submit(prompt="pan left", **{"webhook[url]": receiver.url("/cms")})
    received = receiver.wait_for(1, "/cms")[0]
    assert received.json()["type"] == "job.succeeded"
    assert received.json()["data"]["id"] == job["id"]
    link = received.json()["data"]["output"]["video"]["url"]
    assert requests.get(link, timeout=SECONDS).content == service.content(job["id"])
    assert {"webhook-id", "webhook-timestamp", "webhook-signature"} <= set(received.headers)
    with pytest.raises(Exception, match="No matching signature"):
        Webhook("whsec_" + "A" * 43 + "=").verify(received.body, received.headers)


# In each run tests/integration/worker/test_worker.py checks this test and the next for a worker.
@pytest.mark.extended
def test_a_worker_killed_in_the_middle_still_ends_in_one_success(
    model_service: Service,
) -> None:
    service = model_service
    small = {"resolution": "256p", "num_frames": 32, "num_inference_steps": 80}
    job = service.submit(model="i2vgen-xl", prompt="rain", **small)
    until(lambda: (service.get(job["id"])["progress"]["step"] or 0) > 3, "the render is under way")
    supervisor = service.worker()
    for process in [*supervisor.children(recursive=True), supervisor]:
        with contextlib.suppress(psutil.NoSuchProcess):  # It ended with an earlier one.
            process.kill()
    done = service.ended(job["id"])
    assert (done["status"], done["attempt"], done["failures"]) == ("succeeded", 2, 1)
    assert len(frames(service.content(job["id"]))) == 32


@pytest.mark.extended
def test_a_canceled_render_stays_canceled_and_a_deleted_job_is_gone(
    model_service: Service,
) -> None:
    service = model_service
    job = service.submit(model="i2vgen-xl", num_inference_steps=200, prompt="snow", num_frames=32)
    address = f"{service.url}/v1/jobs/{job['id']}"
    until(lambda: service.get(job["id"])["status"] == "running", "it runs")
    assert service.http.post(f"{address}/cancel", timeout=SECONDS).json()["status"] == "canceled"
    assert service.ended(service.submit(prompt="still")["id"])["status"] == "succeeded"
    assert service.get(job["id"])["status"] == "canceled"
    assert service.http.delete(address, timeout=SECONDS).status_code == 204
    assert service.http.get(address, timeout=SECONDS).status_code == 404


# In each run tests/integration/local/test_local_launcher.py kills a launcher over real servers.
@pytest.mark.extended
def test_what_was_accepted_survives_a_kill_of_the_launcher(tmp_path: Path) -> None:
    with running(tmp_path, engines="camera") as service:
        jobs = [service.submit(prompt="pan right", num_frames=32)["id"] for _ in range(10)]
        service.kill()
        service.start()
        assert service.submit(prompt="still")["warnings"] == []  # The worker is ready too.
        assert {service.ended(job)["status"] for job in jobs} == {"succeeded"}
        assert service.stop() == 0
        assert [p for p in psutil.process_iter() if str(tmp_path) in _command(p)] == []


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
