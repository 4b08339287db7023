"""The UNet's forward pass in two parts: the constants of a clip once, the rest at each step."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from worker.engines.i2vgen.conditions import Conditions
from worker.engines.i2vgen.context import Context, keys_and_values
from worker.engines.i2vgen.shared_rows import for_every_row, through_first_attending
from worker.engines.i2vgen.steps import ClipStep


@dataclass(frozen=True)
class Constants:
    """Values that the UNet computes from the conditions, the same at every step."""

    context: Context  # of text, latents and image
    latents: torch.Tensor  # (frames, 4, h, w)
    times: torch.Tensor  # (steps, width): timestep and frame rate

    @property
    def rows(self) -> int:
        return len(self.context[0][0])

    def row(self, index: int) -> "Constants":
        part = slice(index, index + 1)
        return replace(
            self, context=tuple((keys[part], values[part]) for keys, values in self.context)
        )


class Denoiser:
    """Predicts with a UNet that `weights.prepare` has prepared."""

    def __init__(self, unet: Any) -> None:
        self.unet = unet

    @torch.no_grad()
    def constants(self, conditions: Conditions, steps: Sequence[ClipStep]) -> Constants:
        latents = conditions.latents.to(self.unet.dtype)
        context = self._context(conditions.text, conditions.image, latents[:, :, 0])
        return Constants(
            context=self.keep(context),
            latents=self._placed(latents),
            times=self._times(steps, conditions.fps),
        )

    def _context(
        self, text: torch.Tensor, image: torch.Tensor, latents: torch.Tensor
    ) -> torch.Tensor:
        unet, rows = self.unet, text.shape[0]
        of_latents = unet.image_latents_context_embedding(latents).flatten(2).transpose(1, 2)
        of_image = unet.context_embedding(image).view(len(image), -1, text.shape[2])
        return torch.cat([text, of_latents.expand(rows, -1, -1), of_image], dim=1)

    def keep(self, context: torch.Tensor) -> Context:
        return keys_and_values(self.unet, context)

    def _placed(self, latents: torch.Tensor) -> torch.Tensor:
        """Return the image's latents after every pixel has attended over its frames."""
        _, channels, frames, height, width = latents.shape
        by_frame = self.unet.image_latents_proj_in(latents[0].transpose(0, 1))
        by_pixel = by_frame.permute(2, 3, 0, 1).reshape(height * width, frames, channels)
        mixed = self.unet.image_latents_temporal_encoder(by_pixel)
        return mixed.reshape(height, width, frames, channels).permute(2, 3, 0, 1)

    def _times(self, steps: Sequence[ClipStep], fps: int) -> torch.Tensor:
        unet = self.unet
        when = torch.tensor([step.timestep for step in steps], device=unet.device)
        rate = torch.tensor([fps], device=unet.device)
        of_when = unet.time_embedding(unet.time_proj(when).to(unet.dtype))
        return of_when + unet.fps_embedding(unet.time_proj(rate).to(unet.dtype))

    @torch.no_grad()
    def predict(self, latents: torch.Tensor, constants: Constants, step: int) -> torch.Tensor:
        """Return the prediction of each row, (rows, 4, frames, h, w), float32.

        Args:
            latents: (1, 4, frames, h, w), float32.
            step: its index among the steps that the constants were made for, from 0.
        """
        # One row of times serves every row and frame: each layer broadcasts it.
        time = constants.times[step : step + 1]
        return self._rows(latents, time, constants.latents, constants.context)

    @torch.no_grad()
    def guided(
        self,
        latents: torch.Tensor,
        time: torch.Tensor,
        placed: torch.Tensor,
        context: Context,
        scale: torch.Tensor,
    ) -> torch.Tensor:
        """Return the guided prediction of two rows, (1, 4, frames, h, w), float32.

        All values that change between clips and steps are input tensors, and no value changes the
        path through the code. So one compiled form serves every step, prompt, seed and scale of a
        shape.
        """
        unguided, guided = self._rows(latents, time, placed, context).chunk(2)
        return unguided + scale * (guided - unguided)

    def _rows(
        self, latents: torch.Tensor, time: torch.Tensor, placed: torch.Tensor, context: Context
    ) -> torch.Tensor:
        unet, frames, rows = self.unet, latents.shape[2], len(context[0][0])
        joined = torch.cat([latents[0].transpose(0, 1).to(unet.dtype), placed], dim=1)
        hidden = unet.transformer_in(unet.conv_in(joined), num_frames=frames, return_dict=False)[0]
        hidden = self._through_blocks(hidden, time, context, frames)
        hidden = unet.conv_out(unet.conv_act(unet.conv_norm_out(hidden)))
        return hidden.unflatten(0, (rows, frames)).transpose(1, 2).float()

    def _through_blocks(
        self, hidden: torch.Tensor, time: torch.Tensor, context: Context, frames: int
    ) -> torch.Tensor:
        count = frames * len(context[0][0])
        hidden, skips = self.down(hidden, time, context, frames)
        hidden = self.unet.mid_block(
            for_every_row(hidden, count), time, encoder_hidden_states=context, num_frames=frames
        )
        for block in self.unet.up_blocks:
            taken = tuple(for_every_row(skip, count) for skip in skips[-len(block.resnets) :])
            del skips[-len(block.resnets) :]
            hidden = block(
                hidden,
                temb=time,
                res_hidden_states_tuple=taken,
                # Sides that halve to an odd number must return to their old size.
                upsample_size=skips[-1].shape[2:] if skips else None,
                num_frames=frames,
                **_for(block, context),
            )
        return hidden

    def down(
        self, hidden: torch.Tensor, time: torch.Tensor, context: Context, frames: int
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the smallest tensors and the skips, of which the first are those of one row."""
        skips, have_parted = [hidden], False
        for block in self.unet.down_blocks:
            if _attends(block) and not have_parted:
                hidden, outputs = through_first_attending(block, hidden, time, context, frames)
                have_parted = True
            else:
                given = _for(block, context)
                hidden, outputs = block(hidden, temb=time, num_frames=frames, **given)
            skips.extend(outputs)
        return hidden, skips


def _attends(block: Any) -> bool:
    return bool(getattr(block, "has_cross_attention", False))


def _for(block: Any, context: Context) -> dict[str, Context]:
    """Return the context for a block that attends to it, None for a block that does not."""
    return {"encoder_hidden_states": context} if _attends(block) else {}
