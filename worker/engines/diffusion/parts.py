"""A model's parts in memory, each read from a checked folder, or refused with what is wrong."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import torch
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError
from transformers.utils import logging as transformers_logging

from shared.errors import MissingWeights, NonFiniteFrames
from worker.engines.diffusion.checkpoint import Checkpoint

# What the libraries raise of a config with another type, another width or nothing in a place.
UNREADABLE: Final = (
    *(OSError, ValueError, SafetensorError, TypeError, KeyError, AttributeError),
    *(IndexError, RuntimeError, ZeroDivisionError, AssertionError),
)
# Numbers 0 to n that older files carry and newer classes count by themselves.
COUNTED: Final = "position_ids"


def precision(device: torch.device) -> torch.dtype:
    """Return bfloat16 where the card computes in it, float16 on older cards, float32 without."""
    if device.type == "cpu":
        return torch.float32
    with torch.cuda.device(device):
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native else torch.float16


def weighted_part(checkpoint: Checkpoint, name: str, kind: Any, dtype: torch.dtype) -> Any:
    """Return one part on the host, with just the weights that its files hold.

    Raises:
        MissingWeights: it cannot be read, or its files are not what its config says.
    """
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    model, report = read_part(
        name,
        kind.from_pretrained,
        checkpoint,
        dtype=dtype,
        variant=checkpoint.variant(name),
        use_safetensors=True,
        output_loading_info=True,
    )
    _check_report(name, report)
    return model.eval().requires_grad_(False)


def read_part(name: str, read: Callable[..., Any], checkpoint: Checkpoint, **options: Any) -> Any:
    """Return what the library reads of a part's folder.

    Raises:
        MissingWeights: it could not.
    """
    try:
        return read(checkpoint.part(name), local_files_only=True, **options)
    except UNREADABLE as error:
        raise MissingWeights(
            f"{name} cannot be read, or is not what its config.json says: get the checkpoint again"
        ) from error


def _check_report(name: str, report: Mapping[str, Any]) -> None:
    """Refuse what the libraries only warn of: they go on with random numbers, or without."""
    if missing := sorted(report["missing_keys"]):
        raise MissingWeights(
            f"{name} lacks {len(missing)} of its weights, {missing[0]} among them:"
            " get the whole checkpoint again"
        )
    if other := sorted(str(key) for key in report.get("mismatched_keys", ())):
        raise MissingWeights(
            f"{name} has {len(other)} weights of another size than its config.json says,"
            f" {other[0]} among them: get the checkpoint again"
        )
    unread = sorted(key for key in report["unexpected_keys"] if not key.endswith(COUNTED))
    if unread:
        raise MissingWeights(
            f"{name} has {len(unread)} weights that its config.json has no place for,"
            f" {unread[0]} among them, so it would render something else without an error: get the"
            " checkpoint again"
        )


def first_broken(parts: Mapping[str, Any]) -> str | None:
    """Return the name of a part with weights that are not finite numbers; None if all are."""
    return next((name for name, part in parts.items() if not _is_finite(part.parameters())), None)


@contextmanager
def broken_weights_named(parts: Mapping[str, Any]) -> Iterator[None]:
    """Say of numbers that are not finite which part's weights are not, where it is that.

    Raises:
        MissingWeights: in place of NonFiniteFrames, which blames the seed.
    """
    try:
        yield
    except NonFiniteFrames as error:
        broken = first_broken(parts)
        if broken is None:
            raise
        raise MissingWeights(
            f"{broken} has weights that are not numbers: get the checkpoint again"
        ) from error


def _is_finite(weights: Any) -> bool:
    return all(bool(torch.isfinite(weight).all()) for weight in weights)


def weight_bytes(parts: Sequence[Any]) -> int:
    """Return what the parts' weights take."""
    return sum(
        weight.numel() * weight.element_size() for part in parts for weight in part.parameters()
    )
