"""Starts the parts in order, keeps them running, stops them in the reverse order."""

import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from local.processes.process import CannotStart, Part, Process, last_line

FIRST_RESTART_SECONDS: Final = 0.25
RESTART_FACTOR: Final = 4
LIMIT: Final = 4
"""A part that ends this often in a row is restarted, after 0.25, 1, 4 and 16 s; after that
everything stops."""
STEADY_SECONDS: Final = 60
"""A part that served this long restarts without the backoff of earlier ends."""
HINDERED_SECONDS: Final = 5.0
"""The pause before a part is tried again that the outside hinders."""
UPKEEP_SECONDS: Final = 3600.0
REFUSED: Final = 2
"""The exit status of a process whose settings are wrong; another try would end in the same way."""


@dataclass
class Member:
    """A part, its process if it has one, and how often it ended recently."""

    part: Part
    process: Process | None = None
    is_ready: bool = False
    ready_at: float = 0.0
    start_at: float = 0.0
    upkeep_at: float = 0.0
    ends: int = 0
    is_hindered: bool = False


class Crew:
    """All parts of the system, advanced by `advance`, which never waits long.

    `hindrance` says what outside the parts, such as a full disk, makes them fail now. Such an end
    is no fault of a part: it is started again until the hindrance is gone.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        say: Callable[[str], None],
        *,
        hindrance: Callable[[], str | None] = lambda: None,
        first_restart_seconds: float = FIRST_RESTART_SECONDS,
        hindered_seconds: float = HINDERED_SECONDS,
        upkeep_seconds: float = UPKEEP_SECONDS,
    ) -> None:
        self._members = {part.name: Member(part) for part in parts}
        self._say = say
        self._hindrance = hindrance
        self._first_restart_seconds = first_restart_seconds
        self._hindered_seconds = hindered_seconds
        self._upkeep_seconds = upkeep_seconds

    def are_ready(self, parts: Iterable[Part]) -> bool:
        return all(self._members[part.name].is_ready for part in parts)

    def advance(self) -> None:
        """Start parts that are due, note parts that serve, restart parts that ended.

        Raises:
            CannotStart: a part ended or failed to serve too often.
        """
        for member in self._members.values():
            if member.process is None:
                self._start_if_due(member)
            elif member.process.exit_status is not None:
                self._note_end(member, member.process)
            elif not member.is_ready and not member.part.runs_once:
                self._note_readiness(member, member.process)
            elif member.is_ready and time.monotonic() >= member.upkeep_at:
                self._keep_up(member)

    def stop(self, is_hurried: Callable[[], bool]) -> None:
        """Stop every running part, the last one started first, whatever errors occur."""
        with contextlib.ExitStack() as to_stop:
            for member in self._members.values():
                to_stop.callback(self._stop, member, is_hurried)

    def _stop(self, member: Member, is_hurried: Callable[[], bool]) -> None:
        if member.process is None:
            return
        asked = time.monotonic()
        went = member.process.stop(is_hurried)
        how = "" if went else " (cut short)"
        self._say(f"  {member.part.name:<9} stopped after {time.monotonic() - asked:.1f} s{how}")

    def _start_if_due(self, member: Member) -> None:
        waits = any(not self._members[name].is_ready for name in member.part.needs)
        if member.is_ready or waits or time.monotonic() < member.start_at:
            return
        if member.part.runs_once and member.part.ready and member.part.ready():
            member.is_ready = True
            return
        try:
            member.process = Process(member.part)
        except OSError as error:
            place = f": {error.filename}" if error.filename else ""
            self._count_end(member, f"cannot start ({error.strerror}{place})")

    def _note_readiness(self, member: Member, process: Process) -> None:
        took = time.monotonic() - process.started
        if member.part.ready is None or member.part.ready():
            self._mark_ready(member, took)
        elif took > member.part.ready_seconds:
            process.kill()
            self._count_end(member, f"did not serve within {member.part.ready_seconds:.0f} s")

    def _note_end(self, member: Member, process: Process) -> None:
        status = process.exit_status
        if member.part.runs_once and status == 0:
            member.process = None
            self._mark_ready(member, time.monotonic() - process.started)
            return
        process.kill()  # Processes that it left may hold its port or its folder.
        if status == REFUSED and member.part.can_refuse:
            raise CannotStart(f"{member.part.name} refused to start: {last_line(member.part.log)}")
        self._count_end(member, f"ended with status {status}")

    def _mark_ready(self, member: Member, took: float) -> None:
        member.is_ready = True
        member.ready_at = time.monotonic()
        what = "done" if member.part.runs_once else "ready"
        self._say(f"  {member.part.name:<9} {what} after {took:.1f} s")

    def _keep_up(self, member: Member) -> None:
        member.upkeep_at = time.monotonic() + self._upkeep_seconds
        if member.part.upkeep is None:
            return
        try:
            member.part.upkeep()
        except OSError as error:
            self._say(
                f"  {member.part.name:<9} needs {error.filename}: {error.strerror};"
                f" it is tried again in {self._upkeep_seconds / 60:.0f} minutes"
            )

    def _count_end(self, member: Member, what: str) -> None:
        now = time.monotonic()
        begins = member.process.log_begins if member.process else 0
        was_steady = member.is_ready and now - member.ready_at > STEADY_SECONDS
        member.process, member.is_ready = None, False
        if hindrance := self._hindrance():
            member.start_at = now + self._hindered_seconds
            if not member.is_hindered:
                self._say(f"  {member.part.name:<9} {what}: {hindrance}; then it starts again")
            member.is_hindered = True
            return
        member.is_hindered = False
        member.ends = 1 if was_steady else member.ends + 1
        if member.ends > LIMIT:
            raise CannotStart(
                f"{member.part.name} {what}, {member.ends} times in a row;"
                f" the last line of {member.part.log}: {last_line(member.part.log, begins)}"
            )
        pause = self._first_restart_seconds * RESTART_FACTOR ** (member.ends - 1)
        member.start_at = now + pause
        self._say(f"  {member.part.name:<9} {what}; starting it again in {pause:g} s")
