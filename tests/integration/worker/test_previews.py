"""A model's steps become an image that a waiting client can see, through a real worker."""

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from shared.bell import client
from shared.jobs.preview_store import MOST_BYTES
from tests.support.checkpoints import small_i2vgen_xl
from tests.support.gateway import PATIENCE, PATIENT, Gateway, encoded, running_gateway
from tests.support.photos import astronaut
from tests.support.processes import crew, until
from tests.support.stack import Stack
from worker.render.preview import LONG_SIDE

pytestmark = pytest.mark.timeout(600)

PATIENCE_SECONDS = 240.0
SETTINGS = {"engines": "i2vgen-xl", "lease_seconds": 2}


@pytest.fixture
def gateway(stack: Stack, tmp_path: Path) -> Iterator[Gateway]:
    model_dir = str(small_i2vgen_xl(tmp_path / "small"))
    with (
        crew(stack, tmp_path) as people,
        running_gateway(
            stack.settings(**SETTINGS), replace(PATIENT, redis_seconds=PATIENCE.seconds)
        ) as gateway,
    ):
        people.worker(**SETTINGS, model_dir=model_dir)
        until(
            lambda: gateway.get("/v1/models").json()["data"],
            "the worker offers its model",
            within=PATIENCE_SECONDS,
        )
        yield gateway


@pytest.mark.extended
def test_a_clip_is_seen_while_it_is_made_and_the_image_goes_with_the_jobs_end(
    gateway: Gateway, stack: Stack
) -> None:
    photo = PIL.Image.fromarray(astronaut()).resize((256, 256))
    job = gateway.created(
        model="i2vgen-xl",
        prompt="she smiles",
        resolution="256p",
        num_frames="8",
        num_inference_steps="80",
        image=encoded(photo, "PNG"),
    )
    path = f"/v1/jobs/{job['id']}"
    seen: dict[str, bytes] = {}

    def sees_two() -> bool:
        shown = gateway.get(path).json()
        assert shown["status"] in {"queued", "running"}, (shown["error"], list(seen))
        if (link := shown["preview_url"]) is not None and link not in seen:
            answer = gateway.get(link.removeprefix(gateway.url))
            if answer.status_code == 200:
                seen[link] = answer.content
        return len(seen) >= 2

    until(sees_two, "two previews were shown", within=PATIENCE_SECONDS)

    assert len(set(seen.values())) == 2
    images = [_read(body) for body in seen.values()]
    colour = np.asarray(photo).mean(axis=(0, 1))
    for body, image in zip(seen.values(), images, strict=True):
        assert len(body) <= MOST_BYTES
        assert image.shape == (LONG_SIDE, LONG_SIDE, 3)
        assert np.abs(image.mean(axis=(0, 1)) - colour).max() < 40
    assert gateway.post(f"{path}/cancel").status_code == 200
    assert gateway.get(f"{path}/content?variant=preview").status_code == 410
    redis = client(stack.settings().redis_url.get_secret_value(), socket_seconds=20)
    until(lambda: not redis.keys("stillreel:preview:*"), "the worker drops it", within=60)
    redis.close()
    assert "preview" not in json.dumps(_files(gateway))


def _read(body: bytes) -> Any:
    with PIL.Image.open(io.BytesIO(body)) as opened:
        return np.array(opened.convert("RGB"))


def _files(gateway: Gateway) -> list[str]:
    return gateway.ports.storage.keys("", after="", limit=100)
