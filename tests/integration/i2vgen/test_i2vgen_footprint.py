"""The estimate of a clip's memory matches its tensors, counted at full size."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from bench.models import FULL, as_initialised
from shared.engines.parameters import RenderParameters
from tests.support.arms import asked, our_model
from tests.support.checkpoints import FAITHFUL, small_i2vgen_xl
from tests.support.live_memory import LiveTensors
from worker.engines.i2vgen import memory
from worker.engines.i2vgen.conditions import Conditions
from worker.engines.i2vgen.ddim import DdimStep
from worker.engines.i2vgen.denoise import Guidance
from worker.engines.i2vgen.denoiser import Denoiser
from worker.engines.i2vgen.footprint import FOOTPRINT
from worker.engines.i2vgen.memory import LOW, NORMAL, MemoryUse, Room, for_clip
from worker.engines.i2vgen.pipeline import clip_noise, denoised, encode
from worker.engines.i2vgen.weights import Model, prepare

CountBytes = Callable[[MemoryUse, int, int, int], int]

META = torch.device("meta")
HALF = torch.bfloat16
GIB = 2**30
MARGIN = 1.10  # An estimate may be a tenth too high, but never too low.
FIT = 0.05
WAYS = {way.name: way for way in FOOTPRINT.ways}
BOTH_WAYS = [
    (NORMAL, (512, 512, 16)),
    (LOW, (512, 512, 16)),
    *(
        pytest.param(use, size, marks=pytest.mark.extended)
        for use in (NORMAL, LOW)
        for size in ((256, 256, 16), (512, 512, 8), (1280, 704, 16))
    ),
]
SMALL_SIZES = [(64, 64, 8), (128, 64, 8), (128, 128, 8), (128, 128, 16), (192, 128, 24)]


@dataclass(frozen=True)
class FullSize:
    """The real model's parts in half precision, without numbers."""

    unet: Any
    vae: Any
    text_encoder: Any
    image_encoder: Any


@pytest.fixture(scope="module")
def full_size() -> FullSize:
    with META:
        parts = FullSize(*(each.to(HALF).eval() for each in as_initialised(FULL)))
    prepare(parts.unet)
    return parts


@pytest.fixture(scope="module")
def denoising_bytes(full_size: FullSize) -> CountBytes:
    """Return a function that counts the bytes one guided prediction of a size needs at once."""
    return functools.cache(functools.partial(counted_bytes, full_size.unet))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return our_model(small_i2vgen_xl(tmp_path_factory.mktemp("faithful"), FAITHFUL))


@pytest.mark.parametrize(("use", "size"), BOTH_WAYS)
def test_denoising_takes_what_is_estimated(
    denoising_bytes: CountBytes, use: MemoryUse, size: tuple[int, int, int]
) -> None:
    width, height, frames = size
    estimated = WAYS[use.name].bytes_per_pixel_frame * width * height * frames

    counted = denoising_bytes(use, width // 8, height // 8, frames)

    assert counted <= estimated <= MARGIN * counted


@pytest.mark.parametrize("frames", [1, 2])
def test_decoding_takes_what_is_estimated(full_size: FullSize, frames: int) -> None:
    vae = full_size.vae
    latents = torch.zeros((frames, 4, 64, 64), dtype=HALF, device=META)
    with torch.no_grad(), LiveTensors(vae) as decoding:
        vae.decode(latents)
    with torch.no_grad(), LiveTensors(vae) as encoding:
        vae.encode(torch.zeros((frames, 3, 512, 512), dtype=HALF, device=META))
    estimated = FOOTPRINT.bytes_per_decoded_pixel * 512 * 512 * frames

    assert decoding.peak_bytes <= estimated <= MARGIN * decoding.peak_bytes
    assert encoding.peak_bytes <= estimated


def test_weights_take_what_is_estimated(full_size: FullSize) -> None:
    staying = weight_bytes(full_size.unet) + weight_bytes(full_size.vae)
    text, image = weight_bytes(full_size.text_encoder), weight_bytes(full_size.image_encoder)

    assert WAYS["low"].weights_bytes == pytest.approx(staying, rel=0.01)
    assert WAYS["normal"].weights_bytes == pytest.approx(staying + text + image, rel=0.01)
    assert image <= WAYS["low"].encoding_bytes <= MARGIN * image
    assert WAYS["low"].decode_frames == LOW.decode_frames
    assert WAYS["normal"].decode_frames == NORMAL.decode_frames


def test_encoding_takes_no_more_than_is_estimated(full_size: FullSize) -> None:
    encoder = full_size.image_encoder
    pixels = torch.zeros((1, 3, 224, 224), dtype=HALF, device=META)

    with torch.no_grad(), LiveTensors(encoder) as alive:
        encoder(pixels)

    assert alive.peak_bytes <= WAYS["normal"].encoding_bytes
    assert weight_bytes(encoder) + alive.peak_bytes <= WAYS["low"].encoding_bytes


@pytest.mark.parametrize("most", [3, pytest.param(5, marks=pytest.mark.extended)])
@pytest.mark.parametrize(
    "use",
    [NORMAL, pytest.param(LOW, marks=pytest.mark.extended)],
    ids=lambda use: str(use.name),
)
def test_real_tensors_are_linear_in_pixels_times_frames(
    small: Model, use: MemoryUse, most: int
) -> None:
    sizes = SMALL_SIZES[:most]
    volumes = np.array([width * height * frames for width, height, frames in sizes])
    counted = np.array([rendered_bytes(small, use, size) for size in sizes])

    slope, rest = np.polyfit(volumes, counted, 1)

    assert np.abs(slope * volumes + rest - counted).max() <= FIT * counted.min()
    assert abs(rest) < 0.2 * counted.min()


def test_low_memory_takes_a_third_less(denoising_bytes: CountBytes) -> None:
    # A small model would not show this. Its first layers serve both rows and are as wide as the
    # real model's, so they would need the most memory.
    normal, low = (denoising_bytes(use, 64, 64, 16) for use in (NORMAL, LOW))

    assert low < 0.67 * normal


def test_weights_that_were_there_before_are_not_counted(small: Model) -> None:
    with LiveTensors(small.unet) as alive:
        small.unet.conv_in.weight.flatten()

    assert alive.peak_bytes == 0


@pytest.mark.parametrize(
    ("gib", "size", "use"),
    [
        (0, (1280, 704, 32), NORMAL),
        (12, (512, 512, 16), NORMAL),
        (12, (1280, 704, 16), LOW),
        (24, (1280, 704, 16), NORMAL),
        (8, (256, 256, 8), LOW),
    ],
)
def test_a_clip_too_large_for_the_quick_way_begins_in_low_memory(
    monkeypatch: pytest.MonkeyPatch, gib: int, size: tuple[int, int, int], use: MemoryUse
) -> None:
    monkeypatch.setattr(memory, "card_bytes", lambda device: gib * GIB)

    assert for_clip(parameters(size), torch.device("cpu")) is use


def test_a_clip_needs_the_largest_of_its_stages_in_the_most_frugal_way() -> None:
    low = WAYS["low"]
    still = FOOTPRINT.fixed_bytes + low.weights_bytes

    tiny = FOOTPRINT.least_bytes(width=64, height=64, num_frames=8)
    one = FOOTPRINT.least_bytes(width=2048, height=2048, num_frames=1)
    usual = FOOTPRINT.least_bytes(width=512, height=512, num_frames=16)

    assert tiny == still + low.encoding_bytes
    assert one == still + FOOTPRINT.bytes_per_decoded_pixel * 2048**2
    assert usual == still + low.bytes_per_pixel_frame * 512 * 512 * 16


def weight_bytes(model: Any) -> int:
    return sum(weight.nbytes for weight in model.parameters())


def counted_bytes(unet: Any, use: MemoryUse, width: int, height: int, frames: int) -> int:
    """Return the most bytes that one guided prediction needs at once, with its conditions."""
    with META:
        conditions = Conditions(
            text=torch.zeros((2, 77, 1024), dtype=HALF),
            image=torch.zeros((2, 1, 1024), dtype=HALF),
            latents=torch.zeros((1, 4, frames, height, width)),
            fps=8,
        )
        latents = torch.zeros((1, 4, frames, height, width))
        denoiser = Denoiser(unet)
        # Without inference mode, attention on `meta` is split into steps with a matrix that no
        # device's kernel stores.
        with LiveTensors(unet) as alive, torch.inference_mode():
            constants = denoiser.constants(conditions, [DdimStep(901, 1.0, 0.0)] * 50)
            Guidance(denoiser, 9.0).predict(latents, constants, 0, use)
    return alive.peak_bytes


def rendered_bytes(model: Model, use: MemoryUse, size: tuple[int, int, int]) -> int:
    """Return the most bytes that the denoising of a small clip of real numbers needs at once."""
    width, height, frames = size
    request = asked((width, height), 9.0, num_frames=frames, num_inference_steps=2)
    noise = clip_noise(model, request.parameters)
    conditions = encode(model, request, noise, lambda step: None)
    room = Room(use, model.device)
    with LiveTensors(model.unet) as alive:
        denoised(model, request.parameters, conditions, noise, lambda step: None, room=room)
    return alive.peak_bytes


def parameters(size: tuple[int, int, int]) -> RenderParameters:
    width, height, frames = size
    return asked((64, 64), 9.0, width=width, height=height, num_frames=frames).parameters
