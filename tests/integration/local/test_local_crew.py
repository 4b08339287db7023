"""The parts start in order, are kept running, and stop in the reverse order."""

import contextlib
import errno
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from local.app_processes import ROOT
from local.checks import check_open_files
from local.launcher import StopRequests, make_folder
from local.processes import stray_processes
from local.processes.process import MARK, CannotStart, Part, Process, last_line
from local.processes.supervisor import Crew
from tests.support.processes import until

SLEEP = "import signal; signal.pause()"
ENDS = "import sys; print('the disk is full'); sys.exit(3)"
REFUSES = """
import sys
print('{"event": "refused_to_start", "reason": "PORT is a word"}')
sys.exit(2)
"""
STUBBORN = """
import pathlib, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path("ready").touch()
signal.pause()
"""
PARENT = """
import pathlib, signal, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
pathlib.Path("child").write_text(str(child.pid))
signal.pause()
"""


@pytest.fixture
def part(tmp_path: Path) -> Callable[..., Part]:
    def part(name: str = "part", script: str = SLEEP, **more: Any) -> Part:
        return Part(
            name=name,
            argv=(sys.executable, "-c", script),
            log=tmp_path / f"{name}.log",
            cwd=tmp_path,
            env={MARK: str(tmp_path)},
            **more,
        )

    return part


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def crew_of(said: list[str]) -> Iterator[Callable[..., Crew]]:
    crews: list[Crew] = []

    def crew_of(*parts: Part, **more: Any) -> Crew:
        crews.append(Crew(parts, said.append, **more))
        return crews[-1]

    yield crew_of
    for each in crews:
        each.stop(lambda: True)


def advance_until(crew: Crew, is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        crew.advance()
        time.sleep(0.005)


def has_ended(process: psutil.Process) -> bool:
    """Return whether it has ended; a zombie may be reaped between two looks."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return not process.is_running() or bool(process.status() == psutil.STATUS_ZOMBIE)
    return True


def first_words(said: list[str]) -> list[str]:
    return [" ".join(line.split()[:2]) for line in said]


def test_a_part_starts_once_what_it_needs_serves_and_stops_before_it(
    part: Callable[..., Part], crew_of: Callable[..., Crew], said: list[str]
) -> None:
    parts = (
        part("step", "pass", needs=("server",), runs_once=True),
        part("server"),
        part("user", needs=("step",)),
    )
    crew = crew_of(*parts)
    advance_until(crew, lambda: crew.are_ready(parts))
    crew.stop(lambda: False)

    assert first_words(said) == [
        "server ready", "step done", "user ready", "user stopped", "server stopped",
    ]  # fmt: skip


def test_a_step_that_is_done_already_is_left_out(
    part: Callable[..., Part], crew_of: Callable[..., Crew], said: list[str]
) -> None:
    step = part("step", ENDS, runs_once=True, ready=lambda: True)
    user = part("user", needs=("step",))
    crew = crew_of(step, user)
    advance_until(crew, lambda: crew.are_ready((step, user)))
    assert first_words(said) == ["user ready"]


def test_a_part_that_dies_is_started_again(
    part: Callable[..., Part], crew_of: Callable[..., Crew], said: list[str], tmp_path: Path
) -> None:
    counts = "open('starts', 'a').write('x'); "
    crew = crew_of(part(script=counts + SLEEP))
    advance_until(crew, lambda: said and _text(tmp_path / "starts"))
    (dies,) = stray_processes._find(lambda process: process.environ().get(MARK) == str(tmp_path))
    dies.kill()

    advance_until(crew, lambda: (tmp_path / "starts").read_text() == "xx")

    assert "ended with status -9; starting it again in 0.25 s" in said[1]


def test_a_part_that_always_ends_stops_the_system_with_its_last_word(
    part: Callable[..., Part], crew_of: Callable[..., Crew]
) -> None:
    always_ends = part(script=ENDS)
    it = crew_of(always_ends, first_restart_seconds=0.001)
    with pytest.raises(CannotStart) as refused:
        advance_until(it, lambda: False)
    assert refused.value.message == (
        "part ended with status 3, 5 times in a row;"
        f" the last line of {always_ends.log}: the disk is full"
    )


def test_a_part_whose_settings_are_wrong_is_not_tried_again(
    part: Callable[..., Part], crew_of: Callable[..., Crew]
) -> None:
    it = crew_of(part(script=REFUSES, can_refuse=True))
    with pytest.raises(CannotStart, match=r"^part refused to start: PORT is a word$"):
        advance_until(it, lambda: False)


def test_a_server_that_crashed_with_the_status_of_a_refusal_is_started_again(
    part: Callable[..., Part], crew_of: Callable[..., Crew], said: list[str]
) -> None:
    """SeaweedFS does so, because a Go program that panics ends with status 2."""
    it = crew_of(part(script=REFUSES, ready=lambda: False))
    advance_until(it, lambda: said)
    assert said == ["  part      ended with status 2; starting it again in 0.25 s"]


def test_a_part_that_a_full_disk_ends_is_started_again_until_there_is_room(
    part: Callable[..., Part], crew_of: Callable[..., Crew], said: list[str], tmp_path: Path
) -> None:
    counts = f"open('starts', 'a').write('x')\n{ENDS}"
    disk = ["the disk has 0 MiB left"]
    it = crew_of(
        part(script=counts, ready=lambda: False),
        hindrance=lambda: disk[0],
        hindered_seconds=0.01,
        first_restart_seconds=0.001,
    )
    advance_until(it, lambda: len(_text(tmp_path / "starts")) == 6)
    assert said == [
        "  part      ended with status 3: the disk has 0 MiB left; then it starts again"
    ]
    disk[0] = ""
    with pytest.raises(CannotStart, match="5 times in a row"):
        advance_until(it, lambda: False)


def test_a_part_that_cannot_be_prepared_is_told_with_its_file_and_tried_again(
    part: Callable[..., Part], crew_of: Callable[..., Crew], said: list[str]
) -> None:
    def prepare() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "data/valkey.conf")

    it = crew_of(part(prepare=prepare))
    advance_until(it, lambda: said)
    assert said == [
        "  part      cannot start (No space left on device: data/valkey.conf);"
        " starting it again in 0.25 s"
    ]


def test_a_part_that_never_serves_is_killed_and_tried_again(
    part: Callable[..., Part], crew_of: Callable[..., Crew], said: list[str]
) -> None:
    it = crew_of(part(ready=lambda: False, ready_seconds=0.05))
    advance_until(it, lambda: said)
    assert said == ["  part      did not serve within 0 s; starting it again in 0.25 s"]


@pytest.mark.parametrize(
    ("grace_seconds", "is_hurried", "takes"), [(0.3, False, 0.3), (60, True, 2.0)]
)
def test_a_part_that_will_not_stop_is_killed_after_its_grace_or_two_seconds_in_a_hurry(
    part: Callable[..., Part], tmp_path: Path, grace_seconds: float, is_hurried: bool, takes: float
) -> None:
    process = Process(
        part(script=STUBBORN, grace_seconds=grace_seconds, ready=(tmp_path / "ready").exists)
    )
    process.wait_ready()
    started = time.monotonic()

    assert not process.stop(lambda: is_hurried)

    assert takes <= time.monotonic() - started < takes + 20
    assert process.exit_status == -signal.SIGKILL


def test_nothing_below_a_part_outlives_its_stop(part: Callable[..., Part], tmp_path: Path) -> None:
    process = Process(part(script=PARENT, ready=(tmp_path / "child").exists))
    process.wait_ready()
    child = process.tree()[1]

    assert process.stop()

    assert has_ended(child)


def test_a_dead_part_leaves_no_child_running(part: Callable[..., Part], tmp_path: Path) -> None:
    process = Process(part(script=PARENT, ready=(tmp_path / "child").exists))
    process.wait_ready()
    head, child = process.tree()
    head.kill()
    while process.exit_status is None:
        time.sleep(0.005)

    process.kill()

    assert has_ended(child)


def test_a_part_with_a_death_signal_does_not_outlive_its_launcher(
    part: Callable[..., Part], tmp_path: Path
) -> None:
    launcher = (
        f"import pathlib, signal, sys; sys.path.append({str(ROOT)!r});"
        "from local.processes.process import *;"
        "part = Part(name='part', argv=('sleep', '60'), log=pathlib.Path('log'),"
        " cwd=pathlib.Path('.'), death_signal=signal.SIGTERM);"
        "pathlib.Path('pid').write_text(str(Process(part).pid)); signal.pause()"
    )
    process = Process(part(script=launcher, ready=lambda: bool(_text(tmp_path / "pid"))))
    process.wait_ready()
    orphan = psutil.Process(int(_text(tmp_path / "pid")))
    psutil.Process(process.pid).kill()

    deadline = time.monotonic() + 30
    while not has_ended(orphan):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()


def test_only_what_was_started_from_the_folder_is_ended_as_a_leftover(
    part: Callable[..., Part], tmp_path: Path
) -> None:
    """A process that only names the folder is left alone, and so is one of another folder."""
    ours = Process(part())
    watcher = subprocess.Popen([sys.executable, "-c", SLEEP, str(tmp_path)], cwd=tmp_path)
    other = subprocess.Popen([sys.executable, "-c", SLEEP], env={MARK: f"{tmp_path}2"})
    try:
        # A process that has only just started has no environment yet to recognise it by.
        names = until(lambda: stray_processes.end_leftovers(tmp_path), "it is found")
        assert names == [psutil.Process(watcher.pid).name()]
        assert ours.exit_status == -signal.SIGTERM
        assert watcher.poll() is None
        assert other.poll() is None
    finally:
        for process in (watcher, other):
            process.kill()
            process.wait()


def test_signals_at_once_are_one_request_and_a_later_one_hurries() -> None:
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        requests = StopRequests(one_request_seconds=60)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert (requests.count, requests.is_hurried()) == (1, False)
        requests = StopRequests(one_request_seconds=0)
        signal.raise_signal(signal.SIGTERM)
        assert not requests.is_hurried()
        signal.raise_signal(signal.SIGINT)
        assert requests.is_hurried()
        requests = StopRequests()
        signal.raise_signal(signal.SIGQUIT)
        assert requests.is_hurried()
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def test_a_part_that_serves_is_kept_up_now_and_then_and_told_of_what_fails(
    part: Callable[..., Part], crew_of: Callable[..., Crew], said: list[str]
) -> None:
    """The store's certificates are renewed in this way while it runs, even if the disk is full."""
    calls: list[float] = []

    def upkeep() -> None:
        calls.append(time.monotonic())
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device", "tls/store.pem")

    keeps_up = crew_of(part(upkeep=upkeep, ready=lambda: True), upkeep_seconds=0.05)
    advance_until(keeps_up, lambda: len(calls) == 4)
    assert min(after - before for before, after in itertools.pairwise(calls)) >= 0.05
    assert sum("needs tls/store.pem: No space left on device" in line for line in said) == 1
    assert not any("starting it again" in line for line in said)


def test_a_data_folder_whose_name_is_not_utf8_is_refused_by_name(tmp_path: Path) -> None:
    """SeaweedFS never served in such a folder, and initdb failed with a traceback of ours."""
    with pytest.raises(CannotStart, match="is not UTF-8, and SeaweedFS needs that; set STILLREEL"):
        make_folder(tmp_path / os.fsdecode(b"clips\xff"))
    assert not list(tmp_path.iterdir())


def test_why_a_server_ended_is_the_line_that_it_marked_fatal_in_its_last_run(
    part: Callable[..., Part], crew_of: Callable[..., Crew], tmp_path: Path
) -> None:
    """The last line was "database system is shut down", which is no reason."""
    (tmp_path / "part.log").write_text("FATAL:  an old run\n")
    script = "print('FATAL:  no room in /dev/shm'); print('LOG:  shut down'); raise SystemExit(1)"
    it = crew_of(part(script=script, ready=lambda: False), first_restart_seconds=0.001)
    with pytest.raises(CannotStart, match=r"FATAL:  no room in /dev/shm$"):
        advance_until(it, lambda: False)


def test_what_an_earlier_run_ended_of_is_no_reason(tmp_path: Path) -> None:
    earlier = "FATAL:  no room\n"
    (tmp_path / "log").write_text(f"{earlier}stopped in order\n")
    assert last_line(tmp_path / "log") == "FATAL:  no room"
    assert last_line(tmp_path / "log", begins=len(earlier)) == "stopped in order"


def test_a_user_who_may_open_too_few_files_is_told_the_limit_and_how_to_raise_it() -> None:
    with pytest.raises(CannotStart, match=r"and 1000000 are needed; raise the limit \(ulimit -n"):
        check_open_files(least=1_000_000)
