"""Counts the products of a step; at the device's rate of products, their time is the floor."""

from dataclasses import replace

import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.arms import drawn
from bench.case import Case
from bench.models import Parts, ours
from tests.support.stock import stock_prediction


def step_flops(case: Case, parts: Parts) -> int:
    """Return the products of one guided step of the reference; nothing is computed for this."""
    noise, given = drawn(ours(parts), case.request(0))
    with torch.device("meta"):
        unet = type(parts.unet).from_config(parts.unet.config).to(parts.dtype)
    counted = replace(
        given,
        text=given.text.to("meta"),
        image=given.image.to("meta"),
        latents=given.latents.to("meta"),
    )
    with FlopCounterMode(display=False) as counter:
        stock_prediction(unet, counted, noise.clip.to("meta"), 901, 9.0)
    flops: int = counter.get_total_flops()
    return flops
