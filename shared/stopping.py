"""The signals that ask a process to stop in order."""

import signal
from collections.abc import Callable
from types import FrameType

Handler = Callable[[int, FrameType | None], None]


def on_stop(handler: Handler) -> None:
    """Call the handler when the process is asked to stop, or its terminal is closed.

    If the hangup signal was ignored at the start, as under nohup, it stays ignored.
    """
    signal.signal(signal.SIGTERM, handler)
    signal.signal(signal.SIGINT, handler)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, handler)
