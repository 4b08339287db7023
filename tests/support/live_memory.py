"""The tensors that are alive at once inside a block, counted on any device.

The device `meta` computes and keeps nothing, so a full-size model's tensors can be counted on any
machine. Memory that libraries use beside tensors, and an allocator's rounding, are not counted.
"""

import gc
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveTensors(TorchDispatchMode):
    """Counts storages made inside the block; `peak_bytes` is the most there were at once."""

    def __init__(self, *models: torch.nn.Module) -> None:
        """The weights of `models` were there before, and views of them take nothing."""
        super().__init__()
        self.peak_bytes = self._bytes = 0
        self._alive: dict[int, int] = {}
        self._weights = {_key(weight) for model in models for weight in model.parameters()}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(output):
            if isinstance(tensor, torch.Tensor):
                self._meet(tensor)
        return output

    def _meet(self, tensor: torch.Tensor) -> None:
        key = _key(tensor)
        if key in self._alive or key in self._weights:
            return
        storage = tensor.untyped_storage()
        self._alive[key] = storage.nbytes()
        self._bytes += self._alive[key]
        self.peak_bytes = max(self.peak_bytes, self._bytes)
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self._bytes -= self._alive.pop(key)


def held_bytes() -> int:
    """Return the bytes of all tensors of this process, after unreferenced ones were collected."""
    gc.collect()
    # This checks only the type, because some libraries' lazy objects warn if they are asked for
    # their class.
    found = [each for each in gc.get_objects() if issubclass(type(each), torch.Tensor)]
    return sum({_key(each): each.untyped_storage().nbytes() for each in found}.values())


def _key(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
