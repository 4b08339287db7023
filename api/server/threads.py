"""How threads take turns at the interpreter."""

import sys
from typing import Final

SWITCH_SECONDS: Final = 0.0005
"""Python's own value is 5 ms: a thread that has read a row waits that long for a busy loop."""


def take_short_turns() -> None:
    sys.setswitchinterval(SWITCH_SECONDS)
