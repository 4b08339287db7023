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

    def enter(frame: FrameType, event: str, arg: Any) -> Any:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return step

    def step(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal count
        count += event == "opcode"
        return step

    before = sys.gettrace()
    sys.settrace(enter)
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
    """Return the CPU time of a call; that of other processes and threads does not count."""
    assert threading.current_thread() is threading.main_thread()
    began = time.thread_time()
    with suppress(AppError):
        call()
    return time.thread_time() - began
