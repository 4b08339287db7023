"""The inputs that decide the clips of every model, and the errors of a render that cannot go on.

`i2vgen-xl` has a loop of its own, and more such tests in its folder.
"""

from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from shared.errors import Drained, MissingWeights, NonFiniteFrames, OutOfMemory
from tests.support.photos import astronaut
from tests.support.small_models import FAMILIES, Family, model_of, passes, rendered, told
from worker.engines import BUILT_IN
from worker.engines.base import Step
from worker.engines.diffusion.engine import DiffusionEngine
from worker.weights.catalogue import LAYOUTS

NAMES = [name for name in FAMILIES if name != "i2vgen-xl"]
FOLDER = "diffusers: LTX"
"""`make test` also tests this family, whose class is known only by its signature."""

each = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.extended) for name in NAMES]
)
each_and_a_folder = pytest.mark.parametrize(
    "name",
    [
        FOLDER,
        *(pytest.param(name, marks=pytest.mark.extended) for name in NAMES if name != FOLDER),
    ],
)

FRAMES_A_SECOND_COUNT = ("svd", FOLDER)


def test_every_model_that_ships_is_tried_here() -> None:
    def modules(names: Iterable[str]) -> set[str]:
        return {BUILT_IN[name].partition(":")[0] for name in names if name in BUILT_IN}

    assert modules(FAMILIES) == modules(LAYOUTS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the small checkpoint of a family, built once."""
    return cache(lambda name: FAMILIES[name].build(tmp_path_factory.mktemp("small") / "folder"))


@pytest.fixture(scope="module")
def engine(folder: Callable[[str], Path]) -> Callable[[str], DiffusionEngine[Any]]:
    """Return an engine of a family; no test breaks it."""
    return cache(lambda name: FAMILIES[name].loaded(folder(name)))


Folder = Callable[[str], Path]
Engine = Callable[[str], DiffusionEngine[Any]]


@each
def test_the_global_seed_is_left_alone_and_does_not_count(folder: Folder, name: str) -> None:
    clips = []
    for seed in (1, 2):
        # Each clip has a new engine, because an old one would have its texts and images encoded.
        fresh = FAMILIES[name].loaded(folder(name))
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        clips.append(rendered(fresh, FAMILIES[name].brief()))
        assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(clips[0], clips[1])


@each
def test_all_that_is_given_decides_the_clip(engine: Engine, name: str) -> None:
    spec, brief = engine(name).spec, FAMILIES[name].brief
    requests = {
        "as it was": brief(),
        "image": brief(astronaut()),
        "fit": brief(fit="pad"),
        "seed": brief(seed=8),
        "steps": brief(num_inference_steps=4),
        "guidance": brief(guidance_scale=2.0),
    }
    if spec.uses_prompt:
        requests["prompt"] = brief(prompt="everything falls down")
        requests["negative prompt"] = brief(negative_prompt="still")
    if name in FRAMES_A_SECOND_COUNT:
        requests["fps"] = brief(fps=12)
    clips = {what: rendered(engine(name), request).tobytes() for what, request in requests.items()}
    for what in set(clips) - {"as it was"}:
        assert clips[what] != clips["as it was"], what


@each
def test_a_stop_at_any_step_leaves_the_engine_as_it_was(engine: Engine, name: str) -> None:
    request = FAMILIES[name].brief()
    undisturbed, steps = rendered(engine(name), request), told(engine(name), request)
    for last in range(1, len(steps) + 1):
        seen: list[Step] = []

        def stop(step: Step, seen: list[Step] = seen, last: int = last) -> None:
            seen.append(step)
            if len(seen) == last:
                raise Drained("stopping")

        with pytest.raises(Drained):
            rendered(engine(name), request, stop)
        assert [(s.index, s.stage) for s in seen] == [(s.index, s.stage) for s in steps[:last]]
    assert np.array_equal(rendered(engine(name), request), undisturbed)


def denoiser(breakable: DiffusionEngine[Any], family: Family) -> Any:
    return model_of(breakable).weighted[family.denoiser]


@each_and_a_folder
def test_numbers_that_are_not_finite_end_at_the_first_step(folder: Folder, name: str) -> None:
    def spoil(part: Any, inputs: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (output[0] * float("nan"),)
        output.sample = output.sample * float("nan")
        return output

    family = FAMILIES[name]
    breakable = family.loaded(folder(name))
    denoiser(breakable, family).register_forward_hook(spoil)
    seen = passes(denoiser(breakable, family))

    with pytest.raises(NonFiniteFrames, match="another seed"):
        rendered(breakable, family.brief(num_inference_steps=8, guidance_scale=1.0))
    assert len(seen) == 1


@each_and_a_folder
def test_weights_that_are_not_numbers_are_named(folder: Folder, name: str) -> None:
    family = FAMILIES[name]
    for part in model_of(family.loaded(folder(name))).weighted:
        breakable = family.loaded(folder(name))
        list(model_of(breakable).weighted[part].parameters())[-1].data.fill_(float("nan"))
        with pytest.raises(MissingWeights, match=f"^{part} has weights that are not numbers"):
            rendered(breakable, family.brief())


@each
def test_a_full_card_says_which_clip_would_fit(folder: Folder, name: str) -> None:
    def full(part: Any, inputs: Any) -> None:
        raise torch.OutOfMemoryError("no room")

    family = FAMILIES[name]
    breakable = family.loaded(folder(name))
    denoiser(breakable, family).register_forward_pre_hook(full)
    with pytest.raises(OutOfMemory, match=r"\d x 64 with 9 frames .* num_frames 8"):
        rendered(breakable, family.brief(num_frames=9))


@pytest.mark.extended
@pytest.mark.parametrize(("name", "words", "reads"), [("wan", 120, 511), ("animatediff", 40, 75)])
def test_texts_beyond_the_encoder_are_warnings_of_the_job(
    engine: Engine, name: str, words: int, reads: int
) -> None:
    family = FAMILIES[name]
    long = family.brief(prompt="rise " * words, negative_prompt="still " * words + "The End")
    plan = engine(name).plan(long)
    assert plan["is_prompt_cut"] is True
    first, second = cast(tuple[str, ...], plan["warnings"])
    assert first.startswith(f"the end of prompt was not read, since {name} reads {reads} tokens")
    assert second.startswith("the end of negative_prompt was not read")
    assert second.endswith('The End"')
    short = engine(name).plan(family.brief())
    assert (short["is_prompt_cut"], short["warnings"]) == (False, ())
