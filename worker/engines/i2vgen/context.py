"""The keys and values of a clip's context: the same at every step, so computed once a clip."""

from typing import Any

import torch
import torch.nn.functional as F

KeysValues = tuple[torch.Tensor, torch.Tensor]
"""Those of one layer, each (rows, heads, tokens, width of a head); rows do not repeat over
frames."""

Context = tuple[KeysValues, ...]
"""Those of every layer, in the order of `attend_to_kept_context`."""


class KeptContext:
    """Attends to keys and values computed before, all frames of a row in one sequence.

    The blocks pass their context on without reading it, so it can be a `Context` instead of a
    tensor, and nothing is stored in the model.
    """

    def __init__(self, layer: int) -> None:
        self.layer = layer

    def __call__(
        self,
        attention: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: Context,
        attention_mask: None = None,
    ) -> torch.Tensor:
        """Return the attention of the queries (rows * frames, pixels, width), in their shape."""
        keys, values = encoder_hidden_states[self.layer]
        rows, heads, _, width = keys.shape
        queries = attention.to_q(hidden_states).view(rows, -1, heads, width).transpose(1, 2)
        found = F.scaled_dot_product_attention(queries, keys, values).transpose(1, 2)
        output: torch.Tensor = attention.to_out[0](found.reshape(hidden_states.shape))
        return output


def attend_to_kept_context(unet: Any) -> None:
    """Make the UNet's cross-attention take a `Context`; its weights stay as they are."""
    for layer, attention in enumerate(_attending(unet)):
        attention.set_processor(KeptContext(layer))


def keys_and_values(unet: Any, context: torch.Tensor) -> Context:
    """Return every layer's keys and values for the context, (rows, tokens, width)."""
    return tuple(
        (_by_head(layer, layer.to_k(context)), _by_head(layer, layer.to_v(context)))
        for layer in _attending(unet)
    )


def _attending(unet: Any) -> list[Any]:
    """Return the layers that attend to the context; temporal layers attend to themselves."""
    blocks = [*unet.down_blocks, unet.mid_block, *unet.up_blocks]
    spatial = [each for block in blocks for each in getattr(block, "attentions", ())]
    return [layer.attn2 for each in spatial for layer in each.transformer_blocks]


def _by_head(attention: Any, tokens: torch.Tensor) -> torch.Tensor:
    return tokens.unflatten(2, (attention.heads, -1)).transpose(1, 2).contiguous()
