"""A real worker renders keyframes with a model, and a folder of diffusers as a model."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from tests.support.gateway import Gateway, encoded, running_gateway
from tests.support.photos import Photo, astronaut, cat, coffee
from tests.support.processes import crew, until
from tests.support.small_diffusers import small_ltx
from tests.support.stack import Stack
from worker.engines.animatediff.tiny import tiny_animatediff

pytestmark = [pytest.mark.extended, pytest.mark.timeout(900)]

PATIENCE_SECONDS = 400.0
SMALL = {"width": "64", "height": "64", "num_frames": "8", "num_inference_steps": "2"}


@pytest.fixture
def gateway(stack: Stack, tmp_path: Path) -> Iterator[Gateway]:
    tiny_animatediff(tmp_path / "models" / "animatediff")
    folder = small_ltx(tmp_path / "ltx")
    settings: dict[str, Any] = {"engines": f"animatediff,mine=diffusers:{folder}"}
    with (
        crew(stack, tmp_path) as people,
        running_gateway(stack.settings(**settings)) as gateway,
    ):
        people.worker(**settings, model_dir=str(tmp_path / "models"))
        until(
            lambda: len(gateway.get("/v1/models").json()["data"]) == 2,
            "the worker offers its models",
            within=PATIENCE_SECONDS,
        )
        yield gateway


def test_a_photo_with_keyframes_and_a_folder_of_ones_own_become_clips(gateway: Gateway) -> None:
    plain = clip(gateway, model="animatediff")
    again = clip(gateway, model="animatediff")
    through = clip(gateway, model="animatediff", keyframes=keyframes(5), a=png(astronaut()))
    through_another = clip(gateway, model="animatediff", keyframes=keyframes(5), a=png(cat()))
    to_an_end = clip(gateway, model="animatediff", last_frame=png(astronaut()))
    mine = clip(gateway, model="mine")

    assert plain["output"]["video"]["sha256"] == again["output"]["video"]["sha256"]
    others = [plain, through, through_another, to_an_end, mine]
    assert len({each["output"]["video"]["sha256"] for each in others}) == len(others)
    assert (through["input"]["keyframes"], to_an_end["input"]["last_frame"]) == ([5], True)
    assert mine["metrics"]["plan"]["pipeline"] == "LTXImageToVideoPipeline"
    assert mine["output"]["video"]["num_frames"] == 8

    refused = gateway.post(
        "/v1/jobs",
        data={"model": "mine", "keyframes": keyframes(5)},
        files={"image": png(coffee()), "a": png(astronaut())},
    )
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
    assert "mine takes no keyframes" in refused.json()["detail"]
    assert "ask for model animatediff" in refused.json()["detail"]


def keyframes(frame: int) -> str:
    return f'[{{"frame": {frame}, "image": {{"part": "a"}}}}]'


def png(photo: Photo) -> bytes:
    return encoded(PIL.Image.fromarray(photo).resize((256, 256)), "PNG")


def clip(gateway: Gateway, **given: str | bytes) -> dict[str, Any]:
    """Return the job of a clip, which has succeeded."""
    files = {name: each for name, each in given.items() if isinstance(each, bytes)}
    fields = {name: each for name, each in given.items() if isinstance(each, str)}
    answer = gateway.post(
        "/v1/jobs",
        data={"prompt": "the steam rises", "seed": "3", **SMALL, **fields},
        files={"image": png(coffee()), **files},
    )
    assert answer.status_code == 202, answer.text
    path = f"/v1/jobs/{answer.json()['id']}"

    def ended() -> dict[str, Any] | None:
        job: dict[str, Any] = gateway.get(path).json()
        return job if job["status"] not in {"queued", "running"} else None

    job: dict[str, Any] = until(ended, "the clip is made", within=PATIENCE_SECONDS)
    assert job["status"] == "succeeded", job["error"]
    return job
