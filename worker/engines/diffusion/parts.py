"""A model's parts in memory, each read from a checked folder, or refused with the reason."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import torch
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError
from transformers.utils import logging as transformers_logging

from shared.errors import MissingWeights, NonFiniteFrames
from worker.engines.diffusion.checkpoint import Checkpoint

# The libraries' exceptions for a config with another type, another width or a missing value.
UNREADABLE: Final = (
    *(OSError, ValueError, SafetensorError, TypeError, KeyError, AttributeError),
    *(IndexError, RuntimeError, ZeroDivisionError, AssertionError),
)
# Numbers 0 to n that older files contain and newer classes compute by themselves.
COUNTED: Final = "position_ids"


def precision(device: torch.device) -> torch.dtype:
    """Return bfloat16 if the card computes in it, else float16, or float32 without a card."""
    if device.type == "cpu":
        return torch.float32
    with torch.cuda.device(device):
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native else torch.float16


def weighted_part(checkpoint: Checkpoint, name: str, kind: Any, dtype: torch.dtype) -> Any:
    """Return one part on the host, with exactly the weights that its files hold.

    Raises:
        MissingWeights: it cannot be read, or its files do not match its config.
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
    """Return the part that the library reads from a folder.

    Raises:
        MissingWeights: it could not be read.
    """
    try:
        return read(checkpoint.part(name), local_files_only=True, **options)
    except UNREADABLE as error:
        raise MissingWeights(
            f"{name} cannot be read, or is not what its config.json says: get the checkpoint again"
        ) from error


def _check_report(name: str, report: Mapping[str, Any]) -> None:
    """Refuse faults of which libraries only warn: they go on with random or missing weights."""
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
    """Return the name of a part with weights that are not finite; None if all are finite."""
    return next((name for name, part in parts.items() if not _is_finite(part.parameters())), None)


@contextmanager
def broken_weights_named(parts: Mapping[str, Any]) -> Iterator[None]:
    """If numbers are not finite because of a part's weights, raise an error that names the part.

    Raises:
        MissingWeights: in place of NonFiniteFrames, whose message suggests another seed.
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
    """Return the bytes of the parts' weights."""
    return sum(
        weight.numel() * weight.element_size() for part in parts for weight in part.parameters()
    )
