"""Measures time, speed and memory of the device that a bench runs on."""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

import psutil
import torch

CLOCKS: Final[dict[str, Callable[[], float]]] = {
    "wall": time.perf_counter,
    # CPU seconds of this process, which are right also on a machine that others use. ffmpeg is a
    # process of its own, so its seconds are not in them.
    "cpu": time.process_time,
}
SAMPLE_SECONDS: Final = 0.005


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def held_bytes(device: torch.device) -> int:
    """Return the bytes that are allocated on the card, or this process's memory on the host."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return int(psutil.Process().memory_info().rss)


class Peak:
    """The peak of memory inside the block, in bytes above the start.

    On a card this is `max_memory_allocated`; on a CPU the process is measured every 5 ms.
    """

    def __init__(self, device: torch.device) -> None:
        self.bytes = 0
        self._device = device
        self._is_over = threading.Event()
        self._watch = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        self._before = self._most = held_bytes(self._device)
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            self._watch.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._device.type == "cuda":
            self._most = torch.cuda.max_memory_allocated(self._device)
        else:
            self._is_over.set()
            self._watch.join()
        self.bytes = self._most - self._before

    def _sample(self) -> None:
        while not self._is_over.wait(SAMPLE_SECONDS):
            self._most = max(self._most, held_bytes(self._device))


def flops_per_second(
    device: torch.device, dtype: torch.dtype, clock: Callable[[], float]
) -> float:
    """Return the rate of square matrix products of random numbers (zeros would be faster)."""
    side, times = (8192, 20) if device.type == "cuda" else (1024, 5)
    left, right = torch.randn((2, side, side), device=device, dtype=dtype)
    for _ in range(3):
        left @ right
    synchronize(device)
    began = clock()
    for _ in range(times):
        left @ right
    synchronize(device)
    return 2 * side**3 * times / (clock() - began)


def mark(device: torch.device) -> "torch.cuda.Event | float":
    """Return a mark in the device's work, which a card reaches later than this call."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))
    return event


def seconds_between(first: "torch.cuda.Event | float", then: "torch.cuda.Event | float") -> float:
    if isinstance(first, float) or isinstance(then, float):
        assert isinstance(first, float)
        assert isinstance(then, float)
        return then - first
    then.synchronize()
    return first.elapsed_time(then) / 1000
