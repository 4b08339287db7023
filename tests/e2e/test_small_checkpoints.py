"""Model engines over HTTP: the command writes small checkpoints, and a real worker renders."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from tests.e2e.test_service import SECONDS, Service, frames, running
from tests.support.processes import until
from tests.support.weights_hub import WeightsHub, weights_hub
from worker.engines.svd.checkpoint import SVD
from worker.weights.__main__ import main

pytestmark = [pytest.mark.extended, pytest.mark.long, pytest.mark.timeout(900)]

WISHES: Final[dict[str, dict[str, Any]]] = {
    "svd": {"width": 128, "height": 64, "num_frames": 8},
    "wan": {"width": 128, "height": 64, "num_frames": 9, "prompt": "镜头缓慢推进"},
    "i2vgen-xl": {"resolution": "256p", "num_frames": 8, "prompt": "a cat turns its head"},
}
ENGINES: Final = tuple(WISHES)


def make_small(engine: str, folder: Path) -> str:
    """Write a small checkpoint as `python -m worker.weights tiny` does, and return its output.

    This runs in the test's process, because each start of torch takes seconds.
    """
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert main(["tiny", engine, str(folder)]) == 0
    return said.getvalue()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("small")
    for engine in ENGINES:
        said = make_small(engine, folder / "models" / engine)
        assert "its clips are noise" in said
    with running(folder, engines=",".join(ENGINES), model_dir=folder / "models") as service:
        yield service


def model(service: Service, engine: str) -> dict[str, Any]:
    answer = service.http.get(f"{service.url}/v1/models/{engine}", timeout=SECONDS)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def clip_of(service: Service, job: dict[str, Any]) -> Any:
    assert job["status"] == "succeeded", job["error"]
    return np.stack(frames(service.content(job["id"])))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_photo_becomes_a_clip_and_the_same_seed_the_same_one(
    service: Service, engine: str
) -> None:
    wish = {**WISHES[engine], "model": engine, "num_inference_steps": 3}
    assert model(service, engine)["weights"]["state"] == "ready"
    accepted = service.submit(**wish)
    assert accepted["warnings"] == []
    first = service.ended(accepted["id"])
    again = service.ended(service.submit(**wish, seed=first["seed"])["id"])
    other = service.ended(service.submit(**wish, seed=(first["seed"] + 1) % 2**32)["id"])

    clips = [clip_of(service, job) for job in (first, again, other)]

    assert len(clips[0]) == wish["num_frames"]
    assert np.array_equal(clips[0], clips[1])
    assert not np.array_equal(clips[0], clips[2])
    assert first["output"]["ai_generated"] is True


@pytest.mark.parametrize("engine", ENGINES)
def test_a_render_tells_its_steps_and_stops_when_canceled(service: Service, engine: str) -> None:
    wish = {**WISHES[engine], "model": engine, "num_inference_steps": 200}
    if engine == "i2vgen-xl":
        wish["num_frames"] = 32
    job = service.submit(**wish)

    def told() -> Any:
        """Return the job when it denoises; the load before that counts its own steps."""
        now = service.get(job["id"])
        return (now["progress"]["step"] or 0) > 1 and now["stage"] == "denoising" and now

    assert until(told, "steps are told", within=4 * SECONDS)["progress"]["total_steps"] == 200
    address = f"{service.url}/v1/jobs/{job['id']}/cancel"
    assert service.http.post(address, timeout=SECONDS).json()["status"] == "canceled"

    after = service.ended(service.submit(**{**wish, "num_inference_steps": 2})["id"])

    assert after["status"] == "succeeded", after["error"]
    assert service.get(job["id"])["status"] == "canceled"


def test_a_prompt_in_chinese_is_a_warning_where_it_is_not_read(service: Service) -> None:
    wish = {**WISHES["i2vgen-xl"], "model": "i2vgen-xl", "num_inference_steps": 2}
    job = service.submit(**{**wish, "prompt": "镜头缓慢推进"})
    assert any("Chinese letters" in warning for warning in job["warnings"])
    assert service.ended(job["id"])["status"] == "succeeded"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[WeightsHub]:
    make_small("svd", tmp_path / "published")
    with weights_hub() as hub:
        hub.repositories[SVD.hub_id] = tmp_path / "published"
        yield hub


def test_a_service_without_weights_downloads_shows_how_far_and_renders(
    hub: WeightsHub, tmp_path: Path
) -> None:
    hub.faults.hold_after = 64 * 1024
    folder = tmp_path / "service"
    folder.mkdir()
    with running(folder, engines="svd", hf_endpoint=hub.url) as service:

        def half_way() -> bool:
            weights = model(service, "svd")["weights"]
            return bool(
                weights["state"] == "downloading"
                and 0 < weights["bytes_done"] < weights["bytes_total"]
            )

        until(half_way, "GET /v1/models shows the download", within=2 * SECONDS)
        wish = {**WISHES["svd"], "model": "svd", "num_inference_steps": 2}
        job = service.submit(**wish)
        assert any("are being downloaded" in warning for warning in job["warnings"])
        hub.go.set()
        assert service.ended(job["id"])["status"] == "succeeded"
        until(lambda: model(service, "svd")["weights"]["state"] == "ready", "it is shown as ready")
        hub.forget()
        hub.faults.status = 503
        assert service.stop() == 0
        service.start()
        assert service.ended(service.submit(**wish)["id"])["status"] == "succeeded"
    assert hub.asked == []
