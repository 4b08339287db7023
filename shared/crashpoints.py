"""Named places where a test can make a process die as in a crash: nothing after them runs.

`STILLREEL_CRASHPOINT` names them, separated by commas: `claimed` at the first pass, `step:3` at
the third. With a folder in `STILLREEL_CRASHPOINT_MARKS` each point ends one process only, the
first that comes by. Without a variable a point costs one comparison.

A folder in `STILLREEL_CRASHPOINT_HOLD` makes threads wait in place of dying: a file `claimed@0`
there stops the first thread that comes by. The thread renames it to `claimed@0.held` and waits
until the test deletes that, so a test can kill or stop a process at an exact point.
"""

import os
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Final

VARIABLE: Final = "STILLREEL_CRASHPOINT"
MARKS_VARIABLE: Final = "STILLREEL_CRASHPOINT_MARKS"
HOLD_VARIABLE: Final = "STILLREEL_CRASHPOINT_HOLD"
HELD: Final = ".held"
HOLD_LOOK_SECONDS: Final = 0.05
EXIT: Final = 137  # The status that a shell shows for SIGKILL.

GATEWAY: Final = (
    "image_stored",
    "submit_before_commit",
    "submit_after_commit",
    "bell_rung",
    "cancel_before_commit",
    "cancel_after_commit",
)
WORKER: Final = (
    "claim_before_commit",
    "claimed",
    "loaded",
    "step",
    "rendered",
    "muxed",
    "before_upload",
    "after_upload",
    "complete_before_commit",
    "completed",
    "before_settle",
    "after_settle",
    "lease_let_go",
)
REMOTE: Final = (
    "remote_intended",
    "remote_made",
    "remote_kept",
    "remote_looked",
    "remote_downloading",
    "remote_downloaded",
)
"""Of a worker too; only engines that render on other servers pass them."""

SUPERVISOR: Final = ("before_give_up", "given_up")
KEEPER: Final = (
    "before_reap",
    "lease_reaped",
    "webhook_claimed",
    "webhook_sent",
    "webhook_recorded",
    "before_sweep",
    "swept_storage",
    "swept",
)
POINTS: Final = GATEWAY + WORKER + SUPERVISOR + KEEPER


def _armed(wanted: str) -> dict[str, int]:
    """Return the pass at which each named point dies."""
    armed = {}
    for part in filter(None, wanted.split(",")):
        name, _, number = part.partition(":")
        if name not in (*POINTS, *REMOTE):
            raise ValueError(f"{VARIABLE} names {name!r}, which is no crash point")
        armed[name] = int(number or 1)
    return armed


_deadly: Final = _armed(os.environ.get(VARIABLE, ""))
_holding: Final = os.environ.get(HOLD_VARIABLE)
_is_off: Final = not _deadly and _holding is None
_passes: Final[Counter[str]] = Counter()
_one_at_a_time: Final = threading.Lock()


def crashpoint(name: str) -> None:
    """End this process here, or hold its thread, if a test asked for it."""
    if _is_off:
        return
    if _holding is not None:
        _stand_still(name, Path(_holding))
    if name not in _deadly:
        return
    with _one_at_a_time:  # Two threads that died together would leave two marks of one death.
        _passes[name] += 1
        if _passes[name] >= _deadly[name] and _is_first(name):
            os._exit(EXIT)


def _is_first(name: str) -> bool:
    folder = os.environ.get(MARKS_VARIABLE)
    if folder is None:
        return True
    try:
        Path(folder, name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _stand_still(name: str, folder: Path) -> None:
    """Take one of the files that ask for a thread here, and wait until the test takes it back."""
    for asked in sorted(folder.glob(f"{name}@*[0-9]")):
        held = asked.with_name(asked.name + HELD)
        try:
            asked.rename(held)
        except FileNotFoundError:  # Another thread was quicker.
            continue
        while held.exists():
            time.sleep(HOLD_LOOK_SECONDS)
        return
