"""Weights of convolutions in channels-last layout, as a card's tensor cores read them."""

from typing import Any

import torch
from torch import nn

from worker.engines.i2vgen.flat_conv import FlatConv3d


def lay_out_convolutions(model: Any, *, by_pixel: bool) -> None:
    """Lay every flat convolution's weights out by pixel (channels last), or back by channel.

    By pixel is for compiled code: eager normalisation on a card needs its tensors by channel, and
    would copy each.
    """
    for module in model.modules():
        if isinstance(module, FlatConv3d):
            # As (out, in, 3, 1) this is the flat layout, so squeezing it copies nothing.
            _lay_out(module, torch.channels_last_3d if by_pixel else torch.contiguous_format)
        elif isinstance(module, nn.Conv2d):
            _lay_out(module, torch.channels_last if by_pixel else torch.contiguous_format)


def _lay_out(module: nn.Module, layout: torch.memory_format) -> None:
    weight = module.weight
    assert isinstance(weight, nn.Parameter)
    weight.data = weight.data.contiguous(memory_format=layout)
