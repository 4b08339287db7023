"""A worker gives its engine every image of a job, each with its frame."""

import io
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from shared.engines.given_images import GivenImages
from shared.engines.parameters import RequestedParameters, resolve_parameters
from shared.ids import new_id
from shared.jobs.inputs import Input
from shared.jobs.job import Variant
from shared.jobs.storage_keys import input_key
from shared.lifecycle import Status
from tests.support.factory import JobFixture, png
from tests.support.given_frames_engine import GivenFramesEngine
from tests.support.processes import crew, until
from tests.support.stack import Stack

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

ENGINE = "given=tests.support.given_frames_engine:GivenFramesEngine"
LEVELS = {"image": 40, "keyframe_3": 90, "keyframe_5": 140, "last_frame": 220}


@pytest.fixture
def job_fixture(stack: Stack, tmp_path: Path) -> Iterator[JobFixture]:
    with crew(stack, tmp_path) as people:
        people.worker(engines=ENGINE)
        desk = JobFixture(stack.settings())
        yield desk
        desk.close()


@pytest.mark.extended
def test_keyframes_and_the_last_frame_reach_the_engine(job_fixture: JobFixture) -> None:
    job_id = new_id()
    images = {name: np.full((64, 64, 3), level, np.uint8) for name, level in LEVELS.items()}
    for name, image in images.items():
        job_fixture.storage.put(input_key(job_id, name), png(image), content_type="image/png")
    spec = GivenFramesEngine.spec
    parameters = resolve_parameters(
        spec,
        RequestedParameters(width=64, height=64, num_frames=8),
        image_width=64,
        image_height=64,
        seed=1,
        given=GivenImages(last_frame=True, keyframes=(3, -3)),
    )
    job = job_fixture.submit(
        id=job_id,
        spec=spec,
        image=images["image"],
        parameters=parameters,
        needs=parameters.needs,
        more_inputs=[
            Input(name=name, key=input_key(job_id, name), sha256="0")
            for name in LEVELS
            if name != "image"
        ],
    )
    ended = until(
        lambda: now if (now := job_fixture.get(job)).is_terminal else None,
        "the job ends",
        within=180,
    )
    assert ended.status is Status.SUCCEEDED, ended.error_message
    assert ended.result is not None
    mp4 = job_fixture.storage.get(ended.result.artifacts[Variant.VIDEO].key)
    with av.open(io.BytesIO(mp4)) as container:
        seen = [frame.to_ndarray(format="rgb24").mean() for frame in container.decode(video=0)]
    assert np.allclose(seen, [40, 40, 40, 90, 90, 140, 140, 220], atol=4)
