"""AnimateDiff's clips are those of diffusers' own pipeline, and all that is given decides them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from diffusers import AnimateDiffSparseControlNetPipeline
from PIL import Image as PillowImage

from shared.engines.spec import Honours
from shared.errors import Drained, MissingWeights, NonFiniteFrames, OutOfMemory
from shared.lifecycle import Stage
from shared.settings import Settings
from tests.support.photos import astronaut, coffee
from tests.support.small_wan import asked, ignore, ignore_progress
from worker.engines.animatediff.engine import AnimateDiffEngine
from worker.engines.animatediff.model import Model
from worker.engines.animatediff.pipeline import clip_latents, keyframes_of
from worker.engines.animatediff.tiny import tiny_animatediff
from worker.engines.base import Frames, Image, RenderRequest, Step
from worker.engines.diffusion.encodings import Encodings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_animatediff(tmp_path_factory.mktemp("animatediff"))


@pytest.fixture(scope="module")
def engine(folder: Path) -> AnimateDiffEngine:
    return loaded(folder)


@pytest.fixture
def breakable(folder: Path) -> AnimateDiffEngine:
    """Return an engine of the test's own, whose parts it may break."""
    return loaded(folder)


@pytest.fixture(scope="module")
def stock(folder: Path) -> Any:
    """Return diffusers' pipeline, which draws of each picture the mean in place of a sample."""
    pipeline = AnimateDiffSparseControlNetPipeline.from_pretrained(folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    # Only so that numpy 2 has nothing to warn of: the same numbers, as an array.
    pipeline.scheduler.alphas_cumprod = pipeline.scheduler.alphas_cumprod.numpy()
    encode = pipeline.vae.encode

    def mean(pixels: torch.Tensor) -> Any:
        return SimpleNamespace(latents=encode(pixels).latent_dist.mode())

    pipeline.vae.encode = mean
    return pipeline


def loaded(folder: Path) -> AnimateDiffEngine:
    engine = AnimateDiffEngine(Settings(model_dir=folder, _env_file=None))
    engine.load("cpu", ignore_progress)
    return engine


def model_of(engine: AnimateDiffEngine) -> Model:
    assert engine.model is not None
    return engine.model


def brief(image: Image | None = None, **changed: object) -> RenderRequest:
    return asked(image, **{"num_frames": 8, "num_inference_steps": 2, "width": 64, **changed})


def with_keyframes(keyframes: Mapping[int, Image], **changed: Any) -> RenderRequest:
    return replace(brief(**changed), keyframes=keyframes)


def rendered(engine: AnimateDiffEngine, request: RenderRequest) -> Frames:
    return np.concatenate(list(engine.render(request, ignore)))


def by_stock(stock: Any, request: RenderRequest, output: str) -> Any:
    given, keyframes = request.parameters, keyframes_of(request)
    return stock(
        prompt=given.prompt,
        negative_prompt=given.negative_prompt,
        conditioning_frames=[PillowImage.fromarray(each) for each in keyframes.values()],
        controlnet_frame_indices=list(keyframes),
        width=given.width,
        height=given.height,
        num_frames=given.num_frames,
        num_inference_steps=given.num_inference_steps,
        guidance_scale=given.guidance_scale,
        generator=torch.Generator("cpu").manual_seed(given.seed),
        output_type=output,
    ).frames


REQUESTS = {
    "guided": brief(),
    "unguided": brief(guidance_scale=1.0),
    "with keyframes": with_keyframes({3: astronaut(), 6: coffee()[::-1]}),
    "to a last frame": replace(brief(num_frames=9), last_frame=astronaut()),
}


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_latents_match_the_reference(
    engine: AnimateDiffEngine, stock: Any, request_: RenderRequest
) -> None:
    latents = clip_latents(model_of(engine), request_, ignore, encodings=Encodings())

    reference = by_stock(stock, request_, "latent")
    assert float((latents - reference).norm() / reference.norm()) <= 1e-4


@pytest.mark.extended
def test_frames_match_the_reference(engine: AnimateDiffEngine, stock: Any) -> None:
    request = brief(num_frames=9)

    frames = rendered(engine, request)

    reference = (by_stock(stock, request, "np")[0] * 255).round().astype(np.int16)
    assert np.abs(frames.astype(np.int16) - reference).max() <= 1


@pytest.mark.extended
def test_the_global_seed_is_left_alone_and_does_not_count(folder: Path) -> None:
    clips = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        engine = loaded(folder)  # Else the second clip would find its picture encoded.
        state = torch.get_rng_state()
        clips.append(rendered(engine, with_keyframes({4: astronaut()})))
        assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(clips[0], clips[1])


def test_the_picture_and_every_keyframe_change_the_clip(engine: AnimateDiffEngine) -> None:
    requests = [
        brief(),
        brief(astronaut()),
        with_keyframes({4: astronaut()}),
        with_keyframes({5: astronaut()}),
        with_keyframes({4: coffee()}),
        with_keyframes({4: astronaut(), 6: coffee()}),
        with_keyframes({4: astronaut(), 6: astronaut()}),
        replace(brief(), last_frame=astronaut()),
        replace(brief(), last_frame=coffee()),
    ]
    clips = {rendered(engine, request).tobytes() for request in requests}
    assert len(clips) == len(requests)


@pytest.mark.extended
def test_keyframes_count_wherever_they_stand_in_the_request(engine: AnimateDiffEngine) -> None:
    first, second = {3: astronaut(), 6: coffee()}, {6: coffee(), 3: astronaut()}
    clips = [rendered(engine, with_keyframes(each)) for each in (first, second)]
    assert np.array_equal(clips[0], clips[1])


@pytest.mark.extended
@pytest.mark.parametrize(
    "changed",
    [
        {"prompt": "everything falls down"},
        {"negative_prompt": "still"},
        {"seed": 8},
        {"guidance_scale": 2.0},
        {"num_inference_steps": 3},
        {"fit": "pad"},
    ],
    ids=lambda changed: str(next(iter(changed))),
)
def test_each_parameter_changes_the_clip(
    engine: AnimateDiffEngine, changed: dict[str, Any]
) -> None:
    assert not np.array_equal(rendered(engine, brief(**changed)), rendered(engine, brief()))


@pytest.mark.extended
def test_a_stop_at_any_step_leaves_the_engine_as_it_was(engine: AnimateDiffEngine) -> None:
    undisturbed = rendered(engine, brief())
    for stop_at in range(1, 6):
        calls: list[Step] = []

        def stop(step: Step, seen: list[Step] = calls, last: int = stop_at) -> None:
            seen.append(step)
            if len(seen) == last:
                raise Drained("stopping")

        with pytest.raises(Drained):
            list(engine.render(brief(), stop))
        assert len(calls) == stop_at

    assert np.array_equal(rendered(engine, brief()), undisturbed)


def test_steps_are_told_as_they_are_done(engine: AnimateDiffEngine) -> None:
    told: list[Step] = []

    def keep(step: Step) -> None:
        told.append(step)

    list(engine.render(brief(num_frames=9), keep))
    assert [(s.index, s.total) for s in told if s.stage is Stage.DENOISING] == [(1, 2), (2, 2)]
    assert [s.index for s in told if s.stage is Stage.DECODING] == [2, 4, 6, 8, 9]


@pytest.mark.extended
def test_texts_and_pictures_are_encoded_once_for_clips_that_share_them(folder: Path) -> None:
    engine = loaded(folder)
    model = model_of(engine)
    texts, pictures = passes(model.pipeline.text_encoder), passes(model.vae.encoder)
    for seed in (1, 2):
        rendered(engine, with_keyframes({4: astronaut()}, seed=seed))
    assert (len(texts), len(pictures)) == (2, 2)


def test_texts_beyond_the_encoder_are_warnings_of_the_job(engine: AnimateDiffEngine) -> None:
    plan = engine.plan(brief(prompt="rise " * 40, negative_prompt="still " * 40 + "The End"))
    assert plan["is_prompt_cut"] is True
    first, second = cast(tuple[str, ...], plan["warnings"])
    assert first.startswith("the end of prompt was not read, since animatediff reads 75 tokens")
    assert second.startswith("the end of negative_prompt was not read")
    assert second.endswith('The End"')
    short = engine.plan(brief())
    assert (short["is_prompt_cut"], short["warnings"]) == (False, ())


@pytest.mark.extended
def test_numbers_that_are_not_finite_end_at_the_first_step(breakable: AnimateDiffEngine) -> None:
    unet = model_of(breakable).pipeline.unet
    calls = passes(unet)

    def spoil(part: Any, inputs: Any, output: Any) -> Any:
        output.sample = output.sample * float("nan")
        return output

    unet.register_forward_hook(spoil)
    with pytest.raises(NonFiniteFrames, match="another seed"):
        rendered(breakable, brief(num_inference_steps=8, guidance_scale=1.0))
    assert len(calls) == 1


@pytest.mark.extended
@pytest.mark.parametrize("part", ["text_encoder", "vae", "unet", "controlnet"])
def test_weights_that_are_not_numbers_are_named(breakable: AnimateDiffEngine, part: str) -> None:
    list(model_of(breakable).weighted[part].parameters())[-1].data.fill_(float("nan"))

    with pytest.raises(MissingWeights, match=f"{part} has weights that are not numbers"):
        rendered(breakable, brief())


@pytest.mark.extended
def test_a_full_card_says_which_clip_would_fit(breakable: AnimateDiffEngine) -> None:
    def full(part: Any, inputs: Any) -> None:
        raise torch.OutOfMemoryError("no room")

    model_of(breakable).pipeline.unet.register_forward_pre_hook(full)
    with pytest.raises(OutOfMemory, match=r"64 x 64 with 9 frames .* num_frames 8"):
        rendered(breakable, brief(num_frames=9))


def test_the_spec_takes_keyframes_and_says_what_the_licence_allows(
    engine: AnimateDiffEngine,
) -> None:
    spec = engine.spec
    assert {Honours.KEYFRAMES, Honours.LAST_FRAME} <= set(spec.honours)
    assert (spec.licence.commercial_use, spec.revision) == ("conditions", "local")


def passes(part: Any) -> list[object]:
    """Return a list that grows by one with each forward pass of the part."""
    seen: list[object] = []
    part.register_forward_hook(lambda *_: seen.append(None))
    return seen
