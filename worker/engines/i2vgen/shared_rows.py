"""The first block that attends to the context: up to there both rows of a clip are the same."""

from typing import Any

import torch

from worker.engines.i2vgen.context import Context


def through_first_attending(
    block: Any, hidden: torch.Tensor, time: torch.Tensor, context: Context, frames: int
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return the down block's result for every row, from one row's (frames, width, h, w).

    The guided and the unguided row differ only in their context. So the block's first residual
    layers and self-attention, at the UNet's full size, are computed once for both.
    """
    outputs: list[torch.Tensor] = []
    layers = zip(
        block.resnets, block.temp_convs, block.attentions, block.temp_attentions, strict=True
    )
    for resnet, temporal, attention, temporal_attention in layers:
        hidden = temporal(resnet(hidden, time), num_frames=frames)
        if outputs:
            hidden = attention(hidden, encoder_hidden_states=context, return_dict=False)[0]
        else:
            hidden = _attend_and_part(attention, hidden, context)
        hidden = temporal_attention(hidden, num_frames=frames, return_dict=False)[0]
        outputs.append(hidden)
    for downsampler in block.downsamplers or ():
        hidden = downsampler(hidden)
        outputs.append(hidden)
    return hidden, outputs


def for_every_row(hidden: torch.Tensor, count: int) -> torch.Tensor:
    """Return `count` rows: the given ones, or one row repeated."""
    if len(hidden) == count:
        return hidden
    return hidden.repeat(count // len(hidden), *[1] * (hidden.dim() - 1))


def _attend_and_part(transformer: Any, hidden: torch.Tensor, context: Context) -> torch.Tensor:
    """Run a spatial transformer whose rows part at its one use of the context."""
    (layer,) = transformer.transformer_blocks
    images, _, height, width = hidden.shape
    count = images * len(context[0][0])
    tokens = transformer.proj_in(transformer.norm(hidden).flatten(2).transpose(1, 2))
    tokens = tokens + layer.attn1(layer.norm1(tokens))
    tokens = for_every_row(tokens, count)
    tokens = tokens + layer.attn2(layer.norm2(tokens), encoder_hidden_states=context)
    tokens = tokens + layer.ff(layer.norm3(tokens))
    found = transformer.proj_out(tokens).transpose(1, 2).unflatten(2, (height, width))
    return found.contiguous() + for_every_row(hidden, count)
