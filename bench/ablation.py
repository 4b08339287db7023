"""Our denoising with some of its techniques taken out, to see what each is worth."""

from copy import deepcopy
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor2_0

from worker.engines.i2vgen.context import Context, KeptContext, attend_to_kept_context
from worker.engines.i2vgen.denoiser import Denoiser
from worker.engines.i2vgen.entry import for_every_row
from worker.engines.i2vgen.temporal import flatten_temporal_convolutions


class EachFrameAnew(KeptContext):
    """Projects the context at every step for every frame, as diffusers does."""

    def __call__(
        self,
        attention: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: Context,
        attention_mask: None = None,
    ) -> torch.Tensor:
        context = encoder_hidden_states[0][0]
        frames = len(hidden_states) // len(context)
        repeated = context.repeat_interleave(frames, dim=0)
        output: torch.Tensor = AttnProcessor2_0()(attention, hidden_states, repeated)
        return output


class WithoutKeptContext(Denoiser):
    def keep(self, context: torch.Tensor) -> Context:
        return ((context, context),)


class Unshared(Denoiser):
    """Computes both rows from the first block on."""

    def down(
        self, hidden: torch.Tensor, time: torch.Tensor, context: Context, frames: int
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        hidden = for_every_row(hidden, frames * len(context[0][0]))
        skips = [hidden]
        for block in self.unet.down_blocks:
            given = {"encoder_hidden_states": context} if hasattr(block, "attentions") else {}
            hidden, outputs = block(hidden, temb=time, num_frames=frames, **given)
            skips.extend(outputs)
        return hidden, skips


class Hoisted(WithoutKeptContext, Unshared):
    """Only the own loop: conditions and times once a clip, a step as two numbers."""


def ablations(unet: Any) -> dict[str, Denoiser]:
    """Return our denoiser with one technique more each; the last is what ships."""
    anew, kept, flat = deepcopy(unet), deepcopy(unet), deepcopy(unet)
    for each in (anew, kept, flat):
        attend_to_kept_context(each)
    for processor in anew.attn_processors.values():
        if isinstance(processor, KeptContext):
            processor.__class__ = EachFrameAnew
    flatten_temporal_convolutions(flat)
    return {
        "own loop, conditions once a clip": Hoisted(anew),
        "+ keys and values once a clip": Unshared(kept),
        "+ rows part at the first look": Denoiser(kept),
        "+ flat temporal convolutions": Denoiser(flat),
    }
