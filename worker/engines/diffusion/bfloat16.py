"""Float32 weights stored in half the bytes, as the card computes with them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from shared.errors import MissingWeights


def to_bfloat16(place: Path, in_float32: Sequence[str]) -> bool:
    """Rewrite a safetensors file's float32 weights as bfloat16; return whether there were any.

    Weights whose dotted name contains a word of `in_float32` stay, because the library keeps them
    in float32 in any case. So the model in memory is the same bit for bit.

    Raises:
        MissingWeights: the file is not safetensors.
    """
    fresh = place.with_name(f".{place.name}.bfloat16.part")
    try:
        with safe_open(place, framework="pt") as file:
            kept = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata()
    except SafetensorError as error:
        raise MissingWeights(f"{place.parent.name}/{place.name} is not safetensors") from error
    wide = [name for name, weight in kept.items() if _is_to_shrink(name, weight, in_float32)]
    if not wide:
        return False
    for name in wide:
        kept[name] = kept[name].to(torch.bfloat16)
    save_file(kept, fresh, metadata=metadata)
    fresh.replace(place)
    return True


def _is_to_shrink(name: str, weight: Any, in_float32: Sequence[str]) -> bool:
    return weight.dtype is torch.float32 and not set(name.split(".")) & set(in_float32)
