"""umT5's encoding of a prompt, kept for clips that use the same text again."""

import html
from typing import Any, Final

import torch

from worker.engines.wan.model import Model

MOST_TOKENS: Final = 512
"""The length that Wan was trained with; later tokens are cut off."""


def encode_prompt(model: Model, prompt: str) -> torch.Tensor:
    """Return (1, 512, width), zeros after the prompt's own tokens, on the device."""
    return model.encodings.of_text(prompt, lambda: _encode(model, prompt))


@torch.no_grad()
def _encode(model: Model, prompt: str) -> torch.Tensor:
    tokens: Any = model.tokenizer(
        [cleaned(prompt)],
        padding="max_length",
        max_length=MOST_TOKENS,
        truncation=True,
        return_tensors="pt",
    )
    ids, mask = (each.to(model.device) for each in (tokens.input_ids, tokens.attention_mask))
    states = model.text_encoder(ids, mask).last_hidden_state
    found: torch.Tensor = (states * mask[..., None]).to(model.dtype)
    return found


def cleaned(prompt: str) -> str:
    """Return the prompt with entities resolved and blanks joined, as in the model's training."""
    return " ".join(html.unescape(html.unescape(prompt)).split())
