"""The bench holds two arms against each other, and its numbers are of what it says."""

from pathlib import Path

import pytest
import torch

from bench.models import Parts, Scale, draw_parts
from bench.render import FRUGAL, OURS, STOCK, Case, ablated, measure

# Of 32 groups each would norm two numbers where an image is one pixel: that magnifies any error.
TINY = Scale((64, 64, 64, 64), (32, 32, 32, 32), (32, 2, 2), (32, 2, 2), norm_groups=8)
CASE = Case(width=64, height=64, frames=4, steps=3)


@pytest.fixture(scope="module")
def parts() -> Parts:
    return draw_parts(TINY, torch.device("cpu"))


def test_both_arms_end_in_the_same_latents_and_a_file_each(parts: Parts, tmp_path: Path) -> None:
    rows = {row.name: row for row in measure(CASE, parts, 2, tmp_path)}

    assert list(rows) == [STOCK, OURS, FRUGAL]
    assert all(0 < rows[name].error <= 1e-4 for name in (OURS, FRUGAL))
    assert rows[STOCK].faster_steps == rows[STOCK].faster_clips == 1.0
    assert all(0 < row.step_ms / 1000 < row.seconds for row in rows.values())
    assert (tmp_path / "clip.mp4").stat().st_size > 500


def test_every_technique_is_exact_and_has_its_row(parts: Parts, tmp_path: Path) -> None:
    rows = ablated(CASE, parts, 1, tmp_path)

    assert [row.name for row in rows] == [
        STOCK,
        "own loop, conditions once a clip",
        "+ keys and values once a clip",
        "+ rows part at the first look",
        "+ flat temporal convolutions",
    ]
    assert all(0 < row.error <= 1e-4 for row in rows[1:])


def test_no_drawn_weight_is_zero_throughout(parts: Parts) -> None:
    for model in (parts.unet, parts.vae, parts.text_encoder, parts.image_encoder):
        assert all(weight.any() for weight in model.parameters())
