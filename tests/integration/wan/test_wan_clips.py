"""What a Wan clip depends on, what it does not, and what is left behind when it stops."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from shared.engines.spec import Honours
from shared.errors import Drained, MissingWeights, NonFiniteFrames, OutOfMemory
from shared.lifecycle import Stage
from tests.support.photos import astronaut, coffee
from tests.support.small_wan import asked, engine, loaded, model_of, rendered
from worker.engines.base import Step
from worker.engines.wan.engine import WanEngine
from worker.engines.wan.tiny import Kind, tiny_wan

KINDS: tuple[Kind, ...] = ("ti2v-5b", "i2v-a14b")

pytestmark = pytest.mark.extended


@pytest.fixture(scope="module")
def wan(tmp_path_factory: pytest.TempPathFactory) -> WanEngine:
    return loaded(tmp_path_factory.mktemp("wan"))


@pytest.fixture
def breakable(tmp_path: Path) -> WanEngine:
    """Return an engine of the test's own, whose parts it may break."""
    return loaded(tmp_path)


def test_the_global_seed_is_left_alone_and_does_not_count(wan: WanEngine) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = rendered(wan, asked())
    assert torch.equal(torch.get_rng_state(), state)

    torch.manual_seed(2)
    assert np.array_equal(rendered(wan, asked()), first)


@pytest.mark.parametrize(
    "changed",
    [
        {"prompt": "everything falls down"},
        {"negative_prompt": "still"},
        {"seed": 8},
        {"guidance_scale": 2.0},
        {"num_inference_steps": 4},
    ],
    ids=lambda changed: str(next(iter(changed))),
)
def test_each_parameter_changes_the_clip(wan: WanEngine, changed: dict[str, Any]) -> None:
    assert not np.array_equal(rendered(wan, asked(**changed)), rendered(wan, asked()))


def test_the_picture_changes_the_clip(wan: WanEngine) -> None:
    assert not np.array_equal(rendered(wan, asked(astronaut())), rendered(wan, asked()))


@pytest.mark.parametrize("num_frames", [5, 6, 8, 9])
def test_any_number_of_frames_is_given_though_the_model_makes_every_fourth(
    wan: WanEngine, num_frames: int
) -> None:
    request = asked(num_frames=num_frames)

    assert len(rendered(wan, request)) == num_frames
    assert wan.plan(request)["frames_rendered"] == {5: 5, 6: 9, 8: 9, 9: 9}[num_frames]


def test_a_stop_at_any_step_leaves_the_engine_as_it_was(wan: WanEngine) -> None:
    undisturbed = rendered(wan, asked())
    for stop_at in range(1, 7):
        calls: list[Step] = []

        def stop(step: Step, seen: list[Step] = calls, last: int = stop_at) -> None:
            seen.append(step)
            if len(seen) == last:
                raise Drained("stopping")

        with pytest.raises(Drained):
            list(wan.render(asked(), stop))
        assert len(calls) == stop_at

    assert np.array_equal(rendered(wan, asked()), undisturbed)


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
    passes = count_passes(model_of(wan).text_encoder)
    rendered(wan, asked(prompt="once only", negative_prompt="nor this"))
    rendered(wan, asked(prompt="once only", negative_prompt="nor this", seed=9))

    assert len(passes) == 2


def test_each_expert_works_at_its_own_noise(tmp_path: Path) -> None:
    pipeline = model_of(two := loaded(tmp_path, "i2v-a14b")).pipeline
    high, low = count_passes(pipeline.transformer), count_passes(pipeline.transformer_2)
    rendered(two, asked(guidance_scale=1.0, num_inference_steps=4))

    # The boundary is at 0.9 of 1000; four steps begin at 999, 937, 833 and 624.
    assert (len(high), len(low)) == (2, 2)


def test_texts_beyond_the_encoder_are_warnings_of_the_job(wan: WanEngine) -> None:
    plan = wan.plan(asked(prompt="rise " * 120, negative_prompt="still " * 120 + "The End"))
    assert plan["is_prompt_cut"] is True
    first, second = cast(tuple[str, ...], plan["warnings"])
    assert first.startswith("the end of prompt was not read, since wan reads 511 tokens")
    assert second.startswith("the end of negative_prompt was not read")
    assert second.endswith('The End"')
    short = wan.plan(asked())
    assert (short["is_prompt_cut"], short["warnings"]) == (False, ())


@pytest.mark.parametrize("kind", KINDS)
def test_low_memory_gives_the_same_frames(tmp_path: Path, kind: Kind) -> None:
    normal, low = loaded(tmp_path, kind), loaded(tmp_path, kind, memory="low")

    assert low.plan(asked())["memory"] == "low"
    assert np.array_equal(rendered(low, asked()), rendered(normal, asked()))


def test_numbers_that_are_not_finite_end_at_the_first_step(breakable: WanEngine) -> None:
    def spoil(part: Any, inputs: Any, output: Any) -> Any:
        return (output[0] * float("nan"),)

    transformer = model_of(breakable).pipeline.transformer
    transformer.register_forward_hook(spoil)
    passes = count_passes(transformer)

    with pytest.raises(NonFiniteFrames, match="another seed"):
        rendered(breakable, asked(num_inference_steps=8, guidance_scale=1.0))
    assert len(passes) == 1


@pytest.mark.parametrize("part", ["text_encoder", "vae", "transformer"])
def test_weights_that_are_not_numbers_are_named(breakable: WanEngine, part: str) -> None:
    weights = list(model_of(breakable).weighted[part].parameters())
    weights[-1].data.fill_(float("nan"))

    with pytest.raises(MissingWeights, match=f"{part} has weights that are not numbers"):
        rendered(breakable, asked())


def test_a_full_card_says_which_clip_would_fit(breakable: WanEngine) -> None:
    def full(part: Any, inputs: Any) -> None:
        raise torch.OutOfMemoryError("no room")

    model_of(breakable).pipeline.transformer.register_forward_pre_hook(full)

    with pytest.raises(OutOfMemory, match=r"128 x 64 with 9 frames .* num_frames 8"):
        rendered(breakable, asked())


def test_the_spec_says_what_the_folder_holds(tmp_path: Path) -> None:
    one = engine(tiny_wan(tmp_path / "one")).spec
    two = engine(tiny_wan(tmp_path / "two", "i2v-a14b")).spec

    assert (one.title, two.title) == ("Wan 2.2 TI2V-5B", "Wan 2.2 I2V-A14B")
    assert two.footprint is not None
    assert one.footprint is not None
    assert two.footprint.ways[0].weights_bytes > 2 * one.footprint.ways[0].weights_bytes
    assert (one.revision, two.defaults.fps) == ("local", 16)
    # TI2V-5B takes a last frame and does nothing with it.
    assert (Honours.LAST_FRAME in one.honours, Honours.LAST_FRAME in two.honours) == (False, True)


def test_the_last_frame_changes_the_clip_of_two_experts(tmp_path: Path) -> None:
    two = loaded(tmp_path, "i2v-a14b")
    ends = [None, coffee(), astronaut()]

    clips = [rendered(two, replace(asked(), last_frame=end)).tobytes() for end in ends]

    assert len(set(clips)) == 3


def count_passes(part: Any) -> list[object]:
    """Return a list that grows by one with each forward pass of the part."""
    passes: list[object] = []
    part.register_forward_pre_hook(lambda part, inputs: passes.append(None))
    return passes
