"""The own denoising loop gives the latents that diffusers' pipeline gives.

The stock pipeline is run as it ships, but for three things: it is handed the same starting noise
(`latents=`) and the same draw from the VAE, because it draws the latter from the global
generator; and its text encoder is given back the attribute `text_model` that transformers 5
removed, without which its default call fails. Everything else it computes by itself.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from shared.catalogue import Fit, Parameters
from shared.settings import Settings
from tests.checkpoints import FAITHFUL, small_i2vgen_xl
from tests.photos import photo
from tests.stock import GivenSample, shimmed
from worker.engines.base import RenderRequest, Step
from worker.engines.i2vgen.clip import clip_noise, denoised, encode
from worker.engines.i2vgen.conditions import Conditions, Noise, encode_prompts
from worker.engines.i2vgen.ddim import ddim_steps
from worker.engines.i2vgen.decode import decode
from worker.engines.i2vgen.denoise import Guidance
from worker.engines.i2vgen.denoiser import Denoiser
from worker.engines.i2vgen.weights import Model
from worker.engines.i2vgen_xl import I2VGenXLEngine

BOUND = 1e-4
SEEN = 20 * BOUND  # Dropping the picture's embedding, the smallest of these, gives 5e-3.
STEPS = 8
SIZES = [(64, 64), (128, 64)]
GUIDANCES = [1.0, 9.0]


@dataclass(frozen=True)
class Arms:
    """Ours and the reference over the same checkpoint, each loaded by itself."""

    ours: Model
    stock: GivenSample

    def run_ours(
        self,
        request: RenderRequest,
        change: Callable[[Conditions], Conditions] = lambda conditions: conditions,
    ) -> torch.Tensor:
        noise, conditions = self.conditions(request)
        return denoised(self.ours, request.parameters, change(conditions), noise, silent)

    def run_stock(
        self, request: RenderRequest, latents: torch.Tensor | None = None
    ) -> torch.Tensor:
        noise, conditions = self.conditions(request)
        given = (conditions.latents if latents is None else latents)[:, :, 0]
        self.stock.given = (given / self.ours.vae.config.scaling_factor).to(self.ours.dtype)
        parameters = request.parameters
        return self.stock(
            prompt=parameters.prompt,
            negative_prompt=parameters.negative_prompt,
            image=PillowImage.fromarray(request.image),
            width=parameters.width,
            height=parameters.height,
            target_fps=parameters.fps,
            num_frames=parameters.num_frames,
            num_inference_steps=parameters.num_inference_steps,
            guidance_scale=parameters.guidance_scale,
            latents=noise.clip.to(self.ours.dtype),
            output_type="latent",
        ).frames

    def conditions(self, request: RenderRequest) -> tuple[Noise, Conditions]:
        noise = clip_noise(self.ours, request.parameters)
        return noise, encode(self.ours, request, noise, silent)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_i2vgen_xl(tmp_path_factory.mktemp("faithful"), FAITHFUL)


@pytest.fixture(scope="module")
def arms(checkpoint: Path) -> Arms:
    return Arms(our_model(checkpoint), stock_pipeline(checkpoint, torch.float32))


@pytest.fixture(scope="module")
def expected(arms: Arms) -> torch.Tensor:
    """Return the reference's latents of a small guided clip."""
    return arms.run_stock(asked((64, 64), 9.0))


@pytest.fixture(scope="module")
def half(checkpoint: Path) -> Arms:
    """Return both arms in bfloat16, as on a card."""
    model = our_model(checkpoint)
    for part in (model.text_encoder, model.image_encoder, model.vae, model.unet):
        part.to(torch.bfloat16)
    halved = replace(model, dtype=torch.bfloat16)
    return Arms(halved, stock_pipeline(checkpoint, torch.bfloat16))


def our_model(checkpoint: Path) -> Model:
    engine = I2VGenXLEngine(Settings(model_dir=checkpoint, _env_file=None))
    engine.load("cpu", lambda fraction, what: None)
    assert engine.model is not None
    return engine.model


def stock_pipeline(checkpoint: Path, dtype: torch.dtype) -> GivenSample:
    pipeline: GivenSample = shimmed(GivenSample.from_pretrained(checkpoint, dtype=dtype))
    return pipeline


@pytest.mark.parametrize("guidance", GUIDANCES)
@pytest.mark.parametrize("size", SIZES)
def test_latents_match_the_reference_over_eight_steps(
    arms: Arms, size: tuple[int, int], guidance: float, record_property: Callable[..., None]
) -> None:
    request = asked(size, guidance)

    error = distance(arms.run_ours(request), arms.run_stock(request))

    record_property("relative_error", error)
    assert error <= BOUND


def test_every_single_step_from_the_references_latents_matches(
    arms: Arms, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = asked((128, 64), 9.0)
    seen = Recorder(arms.stock.scheduler)
    monkeypatch.setattr(arms.stock, "scheduler", seen)
    arms.run_stock(request)

    noise, conditions = arms.conditions(request)
    steps = ddim_steps(arms.ours.scheduler, STEPS)
    denoiser = Denoiser(arms.ours.unet)
    guidance = Guidance(denoiser, request.parameters.guidance_scale)
    constants = denoiser.constants(conditions, steps)
    starts = [noise.clip, *seen.samples[:-1]]
    ends = [
        step.advance(start, guidance.predict(start, constants, index))
        for index, (start, step) in enumerate(zip(starts, steps, strict=True))
    ]

    errors = [distance(end, theirs) for end, theirs in zip(ends, seen.samples, strict=True)]
    assert max(errors) <= 1e-5


@pytest.mark.parametrize("size", SIZES)
def test_half_precision_strays_no_further_than_the_references_own(
    arms: Arms, half: Arms, size: tuple[int, int]
) -> None:
    request = asked(size, 9.0)
    latents = arms.conditions(request)[1].latents
    exact = arms.run_stock(request)

    ours = half.run_ours(request, lambda conditions: replace(conditions, latents=latents))
    stocks = half.run_stock(request, latents)

    assert distance(ours, exact) <= 1.25 * distance(stocks.float(), exact)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(
            lambda given: replace(given, latents=torch.zeros_like(given.latents)), id="latents"
        ),
        pytest.param(lambda given: replace(given, fps=8), id="fps"),
        pytest.param(
            lambda given: replace(given, picture=torch.zeros_like(given.picture)), id="picture"
        ),
        pytest.param(lambda given: replace(given, text=given.text.flip(0)), id="prompt"),
    ],
)
def test_a_dropped_condition_does_not_go_unseen(
    arms: Arms, expected: torch.Tensor, change: Callable[[Conditions], Conditions]
) -> None:
    assert distance(arms.run_ours(asked((64, 64), 9.0), change), expected) > SEEN


def test_a_dropped_temporal_convolution_does_not_go_unseen(
    arms: Arms, expected: torch.Tensor, checkpoint: Path
) -> None:
    without = replace(arms, ours=our_model(checkpoint))
    for name, module in without.ours.unet.named_modules():
        if name.endswith(".conv4"):
            torch.nn.init.zeros_(module[-1].weight)
            torch.nn.init.zeros_(module[-1].bias)

    assert distance(without.run_ours(asked((64, 64), 9.0)), expected) > SEEN


def test_the_pictures_latents_are_drawn_as_the_reference_draws_them(arms: Arms) -> None:
    request = asked((64, 64), 9.0)
    noise, conditions = arms.conditions(request)
    middle = PillowImage.fromarray(request.image[:, 16:80])

    with torch.inference_mode():
        pixels = arms.stock.video_processor.preprocess(middle)
        spread = arms.stock.vae.encode(pixels).latent_dist
        sample = spread.mean + spread.std * noise.picture
    expected = sample * arms.stock.vae.config.scaling_factor

    assert request.image.shape == (64, 96, 3)
    torch.testing.assert_close(conditions.latents[:, :, 0], expected, rtol=1e-5, atol=1e-6)


def test_frames_match_the_reference_to_a_level(arms: Arms) -> None:
    latents = torch.randn((1, 4, 8, 8, 16), generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        video = arms.stock.video_processor.postprocess_video(
            arms.stock.decode_latents(latents, decode_chunk_size=1), output_type="np"
        )[0]

    assert np.abs(decode(arms.ours, latents) - video * 255.0).max() <= 1.0


def test_the_prompt_is_read_from_the_last_layer_but_one(arms: Arms) -> None:
    encoder = arms.ours.text_encoder
    outputs: list[torch.Tensor] = []
    hook = encoder.encoder.layers[-2].register_forward_hook(
        lambda module, given, output: outputs.append(output)
    )

    embedded = encode_prompts(arms.ours, ["a cat blinks"])
    hook.remove()

    with torch.inference_mode():
        torch.testing.assert_close(embedded, encoder.final_layer_norm(outputs[0]))


class Recorder:
    """A scheduler that keeps every sample it returns, in the video's own layout."""

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        self.samples: list[torch.Tensor] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scheduler, name)

    def step(self, prediction: Any, timestep: Any, sample: Any, **options: Any) -> Any:
        output = self._scheduler.step(prediction, timestep, sample, **options)
        self.samples.append(output.prev_sample[None].transpose(1, 2))
        return output


def asked(size: tuple[int, int], guidance: float) -> RenderRequest:
    """Return a request whose picture is as tall as the clip is wide.

    The stock pipeline then resamples the picture once on its way to CLIP, as we do.
    """
    width, height = size
    return RenderRequest(
        photo("rocket.jpg", short_side=width),
        Parameters(
            prompt="the rocket slowly rises",
            negative_prompt="blurry",
            resolution=None,
            width=width,
            height=height,
            fit=Fit.CROP,
            num_frames=8,
            fps=12,
            num_inference_steps=STEPS,
            guidance_scale=guidance,
            seed=7,
        ),
    )


def distance(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Return the relative L2 error."""
    return float((ours - theirs).norm() / theirs.norm())


def silent(step: Step) -> None:
    """Report nothing."""
