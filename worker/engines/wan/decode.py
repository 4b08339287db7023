"""From latents to pixels, a latent frame at a time: as decoding all, with a part of its memory.

The VAE's convolutions look back in time only and remember what they have seen. That memory has
private names in diffusers; tests/integration/wan compares this file with `vae.decode`.
"""

from collections.abc import Iterator
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify


def decode_streamed(vae: Any, latents: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield pixels (3, n, height, width), -1 to 1: one frame, then four for each latent frame.

    Args:
        latents: (1, channels, frames, h, w), as the denoiser returns them.
    """
    vae.clear_cache()
    try:
        hidden = _scaled(vae, latents)
        for index in range(hidden.shape[2]):
            yield _decode_one(vae, hidden[:, :, index : index + 1], is_first=index == 0)
    finally:
        vae.clear_cache()


@torch.no_grad()
def _scaled(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    def per_channel(values: list[float]) -> torch.Tensor:
        return torch.tensor(values, device=vae.device, dtype=vae.dtype).view(1, -1, 1, 1, 1)

    spread, mean = per_channel(vae.config.latents_std), per_channel(vae.config.latents_mean)
    found: torch.Tensor = vae.post_quant_conv(latents.to(vae.device, vae.dtype) * spread + mean)
    return found


@torch.no_grad()
def _decode_one(vae: Any, hidden: torch.Tensor, *, is_first: bool) -> torch.Tensor:
    vae._conv_idx = [0]
    remembered = {"feat_cache": vae._feat_map, "feat_idx": vae._conv_idx}
    if is_first:
        remembered["first_chunk"] = True
    pixels = vae.decoder(hidden, **remembered)
    if vae.config.patch_size is not None:
        pixels = unpatchify(pixels, patch_size=vae.config.patch_size)
    clamped: torch.Tensor = pixels[0].clamp(-1, 1)
    return clamped
