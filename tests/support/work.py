"""The amount of work of a call, counted and not timed: the same on every machine at every load."""

import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

from shared.errors import AppError


def steps_of(call: Callable[[], object]) -> int:
    """Return how many steps of bytecode a call takes; a refused call counts up to its refusal.

    The work of C code in one step is not seen, only how often it is called.
    """
    count = 0

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with suppress(AppError):
            call()
    finally:
        sys.settrace(before)
    return count


def bytes_of(call: Callable[[], object]) -> int:
    """Return the most memory that a call holds at one moment."""
    tracemalloc.start()
    try:
        with suppress(AppError):
            call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def cpu_seconds_of(call: Callable[[], object]) -> float:
    """Return the CPU time of a call, the best of three; other processes do not count."""
    assert threading.current_thread() is threading.main_thread()
    taken = []
    for _ in range(3):
        began = time.thread_time()
        with suppress(AppError):
            call()
        taken.append(time.thread_time() - began)
    return min(taken)
