"""Tests of Wan alone: the lengths of its clips, its two experts, its memory."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shared.engines.spec import Honours
from shared.lifecycle import Stage
from tests.support.photos import astronaut, coffee
from tests.support.small_models import asked, model_of, over, passes, rendered, small_wan
from worker.engines.base import Step
from worker.engines.wan.engine import WanEngine
from worker.engines.wan.tiny import Kind, tiny_wan

KINDS: tuple[Kind, ...] = ("ti2v-5b", "i2v-a14b")

pytestmark = pytest.mark.extended


@pytest.fixture(scope="module")
def wan(tmp_path_factory: pytest.TempPathFactory) -> WanEngine:
    return small_wan(tmp_path_factory.mktemp("wan"))


@pytest.mark.parametrize("num_frames", [5, 6, 8, 9])
def test_any_number_of_frames_is_given_though_the_model_makes_every_fourth(
    wan: WanEngine, num_frames: int
) -> None:
    request = asked(num_frames=num_frames)

    assert len(rendered(wan, request)) == num_frames
    assert wan.plan(request)["frames_rendered"] == {5: 5, 6: 9, 8: 9, 9: 9}[num_frames]


def test_steps_are_told_as_they_are_done(wan: WanEngine) -> None:
    told: list[Step] = []

    def keep(step: Step) -> None:
        told.append(step)

    list(wan.render(asked(num_frames=8), keep))

    assert [(s.index, s.total) for s in told if s.stage is Stage.DENOISING] == [
        (1, 3),
        (2, 3),
        (3, 3),
    ]
    assert [s.index for s in told if s.stage is Stage.DECODING] == [1, 5, 8]


def test_a_text_is_encoded_once_for_clips_that_share_it(wan: WanEngine) -> None:
    seen = passes(model_of(wan).text_encoder)
    rendered(wan, asked(prompt="once only", negative_prompt="nor this"))
    rendered(wan, asked(prompt="once only", negative_prompt="nor this", seed=9))

    assert len(seen) == 2


def test_each_expert_works_at_its_own_noise(tmp_path: Path) -> None:
    pipeline = model_of(two := small_wan(tmp_path, "i2v-a14b")).pipeline
    high, low = passes(pipeline.transformer), passes(pipeline.transformer_2)
    rendered(two, asked(guidance_scale=1.0, num_inference_steps=4))

    # The boundary is at 0.9 of 1000; four steps begin at 999, 937, 833 and 624.
    assert (len(high), len(low)) == (2, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_low_memory_gives_the_same_frames(tmp_path: Path, kind: Kind) -> None:
    normal, low = small_wan(tmp_path, kind), small_wan(tmp_path, kind, memory="low")

    assert low.plan(asked())["memory"] == "low"
    assert np.array_equal(rendered(low, asked()), rendered(normal, asked()))


def test_the_spec_says_what_the_folder_holds(tmp_path: Path) -> None:
    one = over(WanEngine, tiny_wan(tmp_path / "one")).spec
    two = over(WanEngine, tiny_wan(tmp_path / "two", "i2v-a14b")).spec

    assert (one.title, two.title) == ("Wan 2.2 TI2V-5B", "Wan 2.2 I2V-A14B")
    assert two.footprint is not None
    assert one.footprint is not None
    assert two.footprint.ways[0].weights_bytes > 2 * one.footprint.ways[0].weights_bytes
    assert (one.revision, two.defaults.fps) == ("local", 16)
    # TI2V-5B accepts a last frame but ignores it.
    assert (Honours.LAST_FRAME in one.honours, Honours.LAST_FRAME in two.honours) == (False, True)


def test_the_last_frame_changes_the_clip_of_two_experts(tmp_path: Path) -> None:
    two = small_wan(tmp_path, "i2v-a14b")
    ends = [None, coffee(), astronaut()]

    clips = [rendered(two, replace(asked(), last_frame=end)).tobytes() for end in ends]

    assert len(set(clips)) == 3
