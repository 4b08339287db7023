"""Our denoising without some of its techniques, to measure what each is worth."""

from copy import deepcopy
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor2_0

from bench.arms import DenoisingArm, Warm
from bench.models import apart
from bench.names import COMPILED_TECHNIQUES
from worker.engines.i2vgen.channels_last import lay_out_convolutions
from worker.engines.i2vgen.compiled import Compiler, WarmShape
from worker.engines.i2vgen.context import Context, KeptContext, attend_to_kept_context
from worker.engines.i2vgen.cuda_graph import Work
from worker.engines.i2vgen.denoiser import Denoiser
from worker.engines.i2vgen.flat_conv import flatten_temporal_convolutions
from worker.engines.i2vgen.shared_rows import for_every_row
from worker.engines.i2vgen.weights import Model

Arms = dict[str, DenoisingArm]


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
    """Computes both rows of a guided step from the first block on."""

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
    """Uses our loop only: it prepares conditions and times once for a clip."""


def ablations(model: Model, unet: Any, shape: WarmShape, compiler: Compiler | None) -> Arms:
    """Return our denoisers, each with one technique more; the last one is the product's.

    Args:
        unet: the UNet of diffusers; `model` has the same weights.
        compiler: without one, the compiled denoisers are left out.
    """
    anew, kept, flat = deepcopy(unet), deepcopy(unet), deepcopy(unet)
    for each in (anew, kept, flat):
        attend_to_kept_context(each)
    for processor in anew.attn_processors.values():
        if isinstance(processor, KeptContext):
            processor.__class__ = EachFrameAnew
    flatten_temporal_convolutions(flat)
    by_pixel = deepcopy(flat)
    lay_out_convolutions(by_pixel, by_pixel=True)
    arms: Arms = {
        "own loop, conditions once a clip": DenoisingArm(model, Hoisted(anew)),
        "+ keys and values once a clip": DenoisingArm(model, Unshared(kept)),
        "+ rows part at the first look": DenoisingArm(model, Denoiser(kept)),
        "+ flat temporal convolutions": DenoisingArm(model, Denoiser(flat)),
        "+ weights by pixel": DenoisingArm(model, Denoiser(by_pixel)),
    }
    if compiler is not None:
        for name, record in zip(COMPILED_TECHNIQUES, (_as_it_is, None), strict=True):
            warm = Warm(apart(model), shape, compiler, record)
            arms[name] = DenoisingArm(warm.model, Denoiser(warm.model.unet), warm=warm)
    return arms


def _as_it_is(work: Work) -> Work:
    """Record no graph: every kernel is launched at every step."""
    return work
