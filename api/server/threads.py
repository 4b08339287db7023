"""How threads take turns at the interpreter."""

import sys
from typing import Final

SWITCH_SECONDS: Final = 0.0005
"""Python's own is 5 ms: so long a thread that has read a row waits for a loop that is busy."""


def take_short_turns() -> None:
    sys.setswitchinterval(SWITCH_SECONDS)
