"""The first block that attends to the context: until there both rows of a clip are one."""

from typing import Any

import torch

from worker.engines.i2vgen.context import Context


def through_first_attending(
    block: Any, hidden: torch.Tensor, time: torch.Tensor, context: Context, frames: int
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return what the down block returns for every row, from one row's (frames, width, h, w).

    Guided and unguided rows differ in their context alone, so the block's first residual layers
    and self-attention, at the UNet's full size, are computed once for both.
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
    """Return `count` images: the ones given, or one row's repeated for each row."""
    if len(hidden) == count:
        return hidden
    return hidden.repeat(count // len(hidden), *[1] * (hidden.dim() - 1))


def _attend_and_part(transformer: Any, hidden: torch.Tensor, context: Context) -> torch.Tensor:
    """Run a spatial transformer whose rows part where its one layer looks at the context."""
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
