"""One frame is found by its shape in latents of an unknown layout."""

import pytest
import torch

from tests.support import checkpoints
from worker.engines.generic.preview import middle_frame, standardised

ONE_THREAD = checkpoints  # The import makes torch use one thread.
CHANNELS, FRAMES, HEIGHT, WIDTH = 4, 3, 2, 5
CLIP = torch.arange(CHANNELS * FRAMES * HEIGHT * WIDTH).float()
CLIP = CLIP.view(CHANNELS, FRAMES, HEIGHT, WIDTH)


def middle(latents: torch.Tensor) -> torch.Tensor | None:
    return middle_frame(latents, channels=CHANNELS, height=HEIGHT, width=WIDTH)


@pytest.mark.parametrize(
    "latents",
    [CLIP[None], CLIP.transpose(0, 1)[None], CLIP.flatten(1).T[None]],
    ids=["by channels", "by frames", "packed"],
)
def test_each_form_gives_its_middle_frame(latents: torch.Tensor) -> None:
    found = middle(latents)
    assert found is not None
    assert torch.equal(found, CLIP[:, 1])


@pytest.mark.parametrize(
    "shape",
    [
        (1, CHANNELS, CHANNELS, HEIGHT, WIDTH),  # Either axis could be the frames.
        (1, 2 * CHANNELS, FRAMES, HEIGHT, WIDTH),
        (1, CHANNELS, FRAMES, WIDTH, HEIGHT),
        (1, FRAMES * HEIGHT * WIDTH, 4 * CHANNELS),
        (1, FRAMES * HEIGHT * WIDTH + 1, CHANNELS),
        (1, CHANNELS, HEIGHT, WIDTH),
    ],
)
def test_a_shape_that_does_not_tell_gives_none(shape: tuple[int, ...]) -> None:
    assert middle(torch.zeros(shape)) is None


def test_the_scale_of_latents_does_not_count() -> None:
    latents = torch.randn(CHANNELS, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))
    scaled = latents * torch.tensor([0.2, 3.0, 18.0, 1.0])[:, None, None] + 7
    assert torch.allclose(standardised(scaled), standardised(latents), atol=1e-4)
