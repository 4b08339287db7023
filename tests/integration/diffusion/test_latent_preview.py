"""Latents become a small image: the photo's latents show the photo, and noise covers it."""

import io

import numpy as np
import PIL.Image
import pytest
import torch

from shared.jobs.preview_store import MOST_BYTES
from tests.support import checkpoints
from tests.support.photos import Photo, astronaut, coffee
from worker.engines.diffusion.preview import (
    PER_CLIP,
    LatentMap,
    Previews,
    fit,
    fit_by_encoding,
    middle_of_frames,
    middle_of_times,
)
from worker.render.preview import LONG_SIDE, encode_preview

ONE_THREAD = checkpoints  # The import makes torch use one thread.
CHANNELS = 16
SIDE = 32


def shrunk(photo: Photo) -> Photo:
    image = PIL.Image.fromarray(photo).resize((SIDE, SIDE), PIL.Image.Resampling.BOX)
    return np.array(image)


def as_latents(photo: Photo) -> torch.Tensor:
    """Return latents (CHANNELS, SIDE, SIDE) that mix the photo's colours with noise."""
    generator = torch.Generator().manual_seed(5)
    mix = torch.randn((CHANNELS, 3), generator=generator)
    pixels = torch.from_numpy(shrunk(photo).astype(np.float32) / 127.5 - 1).permute(2, 0, 1)
    other = 0.1 * torch.randn((CHANNELS, SIDE, SIDE), generator=generator)
    return torch.einsum("cr,rhw->chw", mix, pixels) + other + 0.5


def noise(scale: float) -> torch.Tensor:
    return scale * torch.randn((CHANNELS, SIDE, SIDE), generator=torch.Generator().manual_seed(9))


def likeness(shown: Photo, photo: Photo) -> float:
    """Return the correlation of the two images' pixels, which is 1 for the same image."""
    pairs = np.corrcoef(shown.astype(float).ravel(), shrunk(photo).astype(float).ravel())
    return float(pairs[0, 1])


@pytest.fixture
def latent_map() -> LatentMap:
    return fit(as_latents(astronaut()), astronaut())


def image(latent_map: LatentMap, latents: torch.Tensor, done: float = 1.0) -> Photo:
    shown: Photo = latent_map.image(latents, done=done).numpy()
    return shown


def test_the_photos_latents_show_the_photo(latent_map: LatentMap) -> None:
    shown = image(latent_map, as_latents(astronaut()))

    assert shown.shape == (SIDE, SIDE, 3)
    assert np.abs(shown.astype(int) - shrunk(astronaut())).mean() < 12


def test_another_images_latents_show_that_image(latent_map: LatentMap) -> None:
    shown = image(latent_map, as_latents(coffee()))

    assert likeness(shown, coffee()) > 0.9
    assert likeness(shown, coffee()) > likeness(shown, astronaut()) + 0.5


def test_the_less_noise_there_is_the_more_of_the_photo_is_seen(latent_map: LatentMap) -> None:
    """This includes noise of SVD's schedule, which is hundreds of times as strong as an image."""
    clean = as_latents(astronaut())
    seen = [
        likeness(image(latent_map, clean + noise(scale), done), astronaut())
        for scale, done in ((700.0, 0.1), (10.0, 0.3), (3.0, 0.5), (1.0, 0.8), (0.0, 1.0))
    ]

    assert seen == sorted(seen)
    assert abs(seen[0]) < 0.2
    assert seen[-1] > 0.95


@pytest.mark.parametrize("scale", [1.0, 14.0, 700.0])
def test_noise_alone_is_shown_in_the_photos_colours_and_not_glaring(
    latent_map: LatentMap, scale: float
) -> None:
    shown = image(latent_map, noise(scale), done=0.1)
    photo = shrunk(astronaut())

    assert np.abs(shown.mean(axis=(0, 1)) - photo.mean(axis=(0, 1))).max() < 12
    assert shown.std() < 1.4 * photo.std()


def test_a_scene_that_went_dark_is_shown_dark(latent_map: LatentMap) -> None:
    dark = (astronaut() * 0.3).astype(np.uint8)

    shown = image(latent_map, as_latents(dark))

    assert abs(shown.mean() - dark.mean()) < 15


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0])
def test_latents_that_are_broken_or_flat_end_no_clip(value: float) -> None:
    flat = torch.full((CHANNELS, SIDE, SIDE), value)

    assert image(fit(flat, astronaut()), as_latents(coffee())).shape == (SIDE, SIDE, 3)
    assert image(fit(as_latents(coffee()), coffee()), flat).shape == (SIDE, SIDE, 3)


def test_an_image_is_shrunk_before_it_is_encoded_for_the_fit_alone() -> None:
    given: list[tuple[int, ...]] = []

    def encode(pixels: torch.Tensor) -> torch.Tensor:
        given.append(tuple(pixels.shape))
        return torch.nn.functional.avg_pool2d(pixels, 8)[0]

    wide = np.tile(coffee(), (1, 3, 1))
    latent_map = fit_by_encoding(encode, wide, multiple=64, device=torch.device("cpu"))

    assert given == [(1, 3, 128, 512)]
    assert latent_map.weights.shape == (3, 3)


@pytest.mark.parametrize(("steps", "shown"), [(1, [1]), (3, [2, 3]), (50, list(range(5, 51, 5)))])
def test_a_clip_has_some_ten_previews_and_its_last_step_is_one(
    latent_map: LatentMap, steps: int, shown: list[int]
) -> None:
    previews = Previews(latent_map, steps=steps, one_frame=middle_of_times)
    for step in range(1, steps + 1):
        previews.note(step, as_latents(coffee())[None, :, None])

    found = [step for step in range(1, steps + 1) if previews.of(step) is not None]

    assert found == shown
    assert len(found) <= PER_CLIP + 1
    # The same step gives its preview only once.
    assert previews.of(steps) is None


def test_the_middle_frame_is_shown() -> None:
    times = torch.arange(5.0)

    assert middle_of_times(times[None, None, :, None, None]).item() == 2
    assert middle_of_frames(times[None, :, None, None, None]).item() == 2


@pytest.mark.parametrize("size", [(8, 8), (64, 36), (4, 128), (512, 512)])
def test_a_preview_is_a_small_file_whatever_it_shows(size: tuple[int, int]) -> None:
    height, width = size
    worst = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)

    body = encode_preview(worst)

    with PIL.Image.open(io.BytesIO(body)) as opened:
        assert max(opened.size) == LONG_SIDE
        assert opened.format == "WEBP"
    assert len(body) <= MOST_BYTES
