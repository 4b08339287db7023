"""`make run`: the whole system in one data folder, until it is asked to stop."""

import contextlib
import errno
import fcntl
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Final

from local import ports
from local.app_processes import TEMPORARY, gateway_address, processes
from local.checks import check_open_files, check_postgres_version, check_settings, check_user
from local.console import console, print_addresses, say
from local.log_file import rotate
from local.port_lock import Turn
from local.processes.process import MARK, CannotStart, Part
from local.processes.stray_processes import end_leftovers
from local.processes.supervisor import Crew
from local.room import check_first_start, lack_for_jobs, lack_for_parts
from local.servers.seaweed import sweep_sockets
from local.servers.services import choose_ports, services
from local.state import State
from shared.settings import Settings
from shared.stopping import on_stop

ROUND_SECONDS: Final = 0.05
LOGS_SECONDS: Final = 1.0
"""How often the size of the logs is checked."""

ONE_REQUEST_SECONDS: Final = 0.5
"""Signals this close together are one request, because `make` passes on what its group already
got."""


class StopRequests:
    """How often a person or the system asked the launcher to stop."""

    def __init__(self, *, one_request_seconds: float = ONE_REQUEST_SECONDS) -> None:
        self.count = 0
        self._one_request_seconds = one_request_seconds
        self._last = float("-inf")
        on_stop(self._note)
        signal.signal(signal.SIGQUIT, self._note)

    def is_asked(self) -> bool:
        """Say whether to stop; if nobody can read the output any longer, that counts too."""
        return self.count > 0 or console.is_gone()

    def is_hurried(self) -> bool:
        return self.count > 1

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP and self.count:
            return  # A closing terminal sends its signal twice, which does not mean hurry.
        if number == signal.SIGQUIT:
            self.count += 2  # Whoever presses Ctrl-\\ hurries; its usual end would leave servers.
            return
        now = time.monotonic()
        if now - self._last > self._one_request_seconds:
            self.count += 1
        self._last = now


def launch(
    settings: Settings,
    ours: Callable[[Path, State, Settings], tuple[Part, ...]] = processes,
) -> None:
    """Run the servers and our own processes on them, until asked to stop.

    Raises:
        CannotStart: the system cannot start, or a part fails again and again; nothing is left
            running.
    """
    requests = StopRequests()
    check_user()
    check_open_files()
    folder = make_folder(settings.data_dir)
    check_settings(settings, folder)
    with hold(folder):
        check_postgres_version(folder)
        check_first_start(folder)
        kept = State.load(folder)
        if left := end_leftovers(folder):
            say(f"ended processes that an earlier start left: {', '.join(sorted(set(left)))}")
        refuse_busy_port(settings)
        remove_temporary(folder)
        with Turn(say, requests.is_asked) as turn:
            chosen = choose_ports(kept.ports, kept=settings.port)
            state = replace(kept, ports=chosen, gateway=gateway_address(settings))
            if state != kept:
                state.save(folder)
            sweep_sockets(state)
            servers = services(folder, state)
            own = ours(folder, state, settings)
            if lack := lack_for_jobs(folder, settings.min_free_bytes):
                say(f"{lack}: new jobs are refused until there is room")

            def let_others_choose() -> None:
                # SeaweedFS opens its admin ports after it begins to serve.
                if turn.is_held and all(map(ports.is_open, chosen.values())):
                    turn.end()

            run(servers, own, folder, requests, on_serving=let_others_choose)


def run(
    servers: Sequence[Part],
    own: Sequence[Part],
    folder: Path,
    requests: StopRequests,
    *,
    on_serving: Callable[[], None],
) -> None:
    """Start the parts, restart those that end, and stop all when asked or when one gives up.

    Args:
        on_serving: called when the servers serve, and again regularly after that.
    """
    parts = (*servers, *own)
    hindrance = partial(lack_for_parts, folder)
    crew = Crew([_marked(part, folder) for part in parts], say, hindrance=hindrance)
    is_announced = False
    logs_at = 0.0
    try:
        while not requests.is_asked():
            if time.monotonic() > logs_at:
                logs_at = time.monotonic() + LOGS_SECONDS
                for part in parts:
                    rotate(part.log)
            crew.advance()
            if crew.are_ready(servers):
                on_serving()
            if crew.are_ready(parts) and not is_announced:
                is_announced = True
                print_addresses(parts)
            time.sleep(ROUND_SECONDS)
    finally:
        say("stopping; press it again to hurry" if requests.count else "stopping")
        crew.stop(requests.is_hurried)


def make_folder(path: Path) -> Path:
    """Return the data folder, made if it is missing; an existing folder keeps its mode and owner.

    Raises:
        CannotStart: the folder belongs to another user, or cannot be written to.
    """
    folder = path.absolute()
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise CannotStart(
            f"the name of the data folder {folder} is not UTF-8, and SeaweedFS needs that; set"
            " STILLREEL_DATA_DIR to another folder, or rename this one"
        ) from None
    try:
        # Others may only pass through it, because Postgres may have to run as another user than
        # root.
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        folder = folder.resolve()
        _refuse_anothers(folder)
        (folder / "logs").mkdir(mode=0o700, exist_ok=True)
        (folder / "lock").touch()
    except OSError as error:
        raise CannotStart(
            f"the data folder {folder} cannot be used ({error.strerror}); set STILLREEL_DATA_DIR"
            " to one that this user may write to"
        ) from error
    return folder


def _refuse_anothers(folder: Path) -> None:
    for name in ("lock", "state.json"):
        if (folder / name).exists() and (folder / name).stat().st_uid != os.geteuid():
            raise CannotStart(
                f"{folder} was made by user {(folder / name).stat().st_uid} and this is user"
                f" {os.geteuid()}; run as that user, or set STILLREEL_DATA_DIR to another folder"
            )


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which the system drops however the launcher ends.

    Raises:
        CannotStart: another launcher holds it.
    """
    with (folder / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise CannotStart(
                f"another `make run` (pid {lock.read().strip()}) is using {folder}; stop it with"
                " Ctrl-C, or set STILLREEL_DATA_DIR and PORT to run a second one beside it"
            ) from None
        with contextlib.suppress(OSError):  # On a full disk the lock holds without our number.
            os.truncate(lock.fileno(), 0)
            os.write(lock.fileno(), str(os.getpid()).encode())
        yield


def remove_temporary(folder: Path) -> None:
    """Remove the files that killed processes could not."""
    shutil.rmtree(folder / TEMPORARY, ignore_errors=True)
    (folder / TEMPORARY).mkdir(mode=0o700, exist_ok=True)


def refuse_busy_port(settings: Settings) -> None:
    """Raise CannotStart if the gateway could not listen on its port."""
    port, host = settings.port, settings.host
    obstacle = ports.obstacle(port, host)
    if obstacle is None:
        return
    if obstacle.errno != errno.EADDRINUSE:
        raise CannotStart(
            f"the gateway cannot listen on {host}, port {port} ({obstacle.strerror}); choose"
            " others with HOST and PORT"
        )
    holder = ports.holder(port)
    raise CannotStart(
        f"port {port} is in use{f' by {holder}' if holder else ''};"
        f" stop that, or choose another port: make run PORT={port + 1}"
    )


def _marked(part: Part, folder: Path) -> Part:
    return replace(part, env={**part.env, MARK: str(folder)})
