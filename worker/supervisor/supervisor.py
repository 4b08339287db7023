"""One pinned Celery worker per slot: started, watched, restarted with backoff, drained."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from shared.settings import Settings
from worker.bells import QUEUE
from worker.supervisor.heartbeat_file import HeartbeatFile
from worker.supervisor.worker_config import WorkerConfig

FIRST_RESTART_SECONDS: Final = 0.5
LONGEST_RESTART_SECONDS: Final = 30.0
STEADY_SECONDS: Final = 60.0
"""A worker that ran this long restarts without the backoff of earlier deaths."""

HUNG_MARGIN_SECONDS: Final = 10.0
KILL_MARGIN_SECONDS: Final = 10.0
"""How long after a drain's own time everything has ended."""

STOP_SECONDS: Final = 5.0
"""The part of that time for Celery's own end, when nothing is rendered any longer."""

DRAIN_LOOK_SECONDS: Final = 0.05
_PR_SET_PDEATHSIG: Final = 1

_log = structlog.get_logger(__name__)


@dataclass
class Worker:
    """One slot's Celery worker: its place, and how often it died recently."""

    config: WorkerConfig
    heartbeat_file: HeartbeatFile
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_at: float = 0.0
    deaths: int = 0
    is_ending: bool = False


class Supervisor:
    """Keeps every worker running until it is asked to drain."""

    def __init__(
        self,
        settings: Settings,
        configs: Sequence[WorkerConfig],
        *,
        give_up: Callable[[str], None],
        hand_back: Callable[[str], None],
        is_lost: Callable[[str], bool] = lambda worker: False,
    ) -> None:
        """Prepare one worker for each place.

        Args:
            give_up: takes back the jobs of a dead child, by the name on its claims, and charges a
                failure to them.
            hand_back: does the same without a charge, because we ended the child ourselves.
            is_lost: says whether a worker's card no longer answers.
        """
        self._settings = settings
        self._give_up = give_up
        self._hand_back = hand_back
        self._is_lost = is_lost
        self._workers = [
            Worker(config, HeartbeatFile.create(Path(config.heartbeat_path))) for config in configs
        ]

    def watch(self) -> None:
        """Do one round: start workers that are due, note dead ones, kill those that hang."""
        for worker in self._workers:
            self._watch_process(worker)
            self._watch_child(worker)

    def drain(self) -> None:
        """Let every child finish or hand back its job, then end all; no failure is charged.

        Celery is told to stop only when the child's render loop has ended, because it believes
        that a child is idle if it renders outside of a task.
        """
        within = self._settings.drain_seconds
        _log.info("draining", seconds=within)
        ends_at = time.monotonic() + within + KILL_MARGIN_SECONDS
        running = [worker for worker in self._workers if worker.process is not None]
        for worker in running:
            worker.heartbeat_file.ask_to_drain(within)
        drained: list[Worker] = []
        while len(drained) < len(running) and time.monotonic() < ends_at - STOP_SECONDS:
            for worker in running:
                if worker not in drained and _has_drained(worker):
                    drained.append(worker)
                    _signal(worker, signal.SIGTERM)
            time.sleep(DRAIN_LOOK_SECONDS)
        stops_at = min(ends_at, time.monotonic() + STOP_SECONDS)
        for worker in running:
            self._end(worker, stops_at)
        _log.info("drained")

    def _end(self, worker: Worker, stops_at: float) -> None:
        """Wait for a worker's end, or cause it, and take back the jobs that it still held."""
        assert worker.process is not None
        try:
            worker.process.wait(timeout=max(0.0, stops_at - time.monotonic()))
        except subprocess.TimeoutExpired:
            _log.error("killed_at_the_end_of_the_drain", worker=worker.config.worker)
            worker.process.kill()
            worker.process.wait()
        if worker.heartbeat_file.pid:
            self._hand_back(worker.config.name(worker.heartbeat_file.incarnation))
            worker.heartbeat_file.clear_child()

    def _watch_process(self, worker: Worker) -> None:
        now = time.monotonic()
        is_lost = self._is_lost(worker.config.worker)
        if worker.process is None:
            if now >= worker.start_at and not is_lost:
                worker.heartbeat_file.vacate()
                worker.process, worker.is_ending = _start(worker), False
                worker.started_at = now
            return
        code = worker.process.poll()
        if code is None:
            if is_lost:
                self._leave_lost_card(worker)
            return
        worker.process = None
        self._free_jobs_of_the_dead(worker)
        steady = now - worker.started_at > STEADY_SECONDS
        worker.deaths = 1 if steady else worker.deaths + 1
        pause = min(LONGEST_RESTART_SECONDS, FIRST_RESTART_SECONDS * 2 ** (worker.deaths - 1))
        worker.start_at = now + pause
        _log.error(
            "worker_died", worker=worker.config.worker, exit_code=code, restart_seconds=pause
        )

    def _leave_lost_card(self, worker: Worker) -> None:
        """Make the child hand back its job, which cannot be finished there, and then end."""
        if not worker.heartbeat_file.is_draining:
            worker.heartbeat_file.ask_to_drain(0)
        elif not worker.is_ending and _has_drained(worker):
            worker.is_ending = True
            _signal(worker, signal.SIGTERM)

    def _watch_child(self, worker: Worker) -> None:
        """Free the jobs of a child that died, and kill a child that shows no progress."""
        if worker.process is None:
            return
        pid = worker.heartbeat_file.pid
        if not pid:
            return
        if not _is_child_of(pid, worker.process.pid):
            self._free_jobs_of_the_dead(worker)
        elif worker.heartbeat_file.overdue_seconds > HUNG_MARGIN_SECONDS:
            _log.error("child_hangs", worker=worker.config.worker, pid=pid)
            with suppress(ProcessLookupError):  # It may have died since the check.
                os.kill(pid, signal.SIGKILL)

    def _free_jobs_of_the_dead(self, worker: Worker) -> None:
        """Take back at once the jobs of the last child; its successor would do the same later."""
        if worker.heartbeat_file.pid:
            name = worker.config.name(worker.heartbeat_file.incarnation)
            worker.heartbeat_file.clear_child()
            self._give_up(name)


def _start(worker: Worker) -> subprocess.Popen[bytes]:
    command = [
        # Its messages are JSON, which root may read, and its banner is not a log line.
        *(sys.executable, "-W", "ignore:You're running the worker with superuser"),
        *("-m", "celery", "--quiet", "--app", "worker.celery_app", "worker"),
        *("--queues", QUEUE, "--hostname", f"{worker.config.worker}@%h"),
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
    ]
    environment = {
        **os.environ,
        **worker.config.to_environment(),
        "CUDA_VISIBLE_DEVICES": worker.config.cuda_visible_devices,
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # The same order in which nvidia-smi counts.
    }
    process = subprocess.Popen(
        command, env=environment, start_new_session=True, preexec_fn=_die_with_parent
    )
    _log.info(
        "worker_started",
        worker=worker.config.worker,
        pid=process.pid,
        cuda_visible_devices=worker.config.cuda_visible_devices,
    )
    return process


def _die_with_parent() -> None:
    """Let the kernel end the worker of a killed supervisor, because two must not share a GPU."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _has_drained(worker: Worker) -> bool:
    """Say whether nothing is rendered in this place: finished, dead or not yet started."""
    assert worker.process is not None
    pid = worker.heartbeat_file.pid
    return worker.heartbeat_file.is_drained or not pid or not _is_child_of(pid, worker.process.pid)


def _signal(worker: Worker, number: signal.Signals) -> None:
    assert worker.process is not None
    if worker.process.poll() is None:
        worker.process.send_signal(number)


def _is_child_of(pid: int, parent: int) -> bool:
    """Say whether the process lives and is that parent's child; only Linux checks the parent."""
    if sys.platform != "linux":
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    state, ppid = status.rpartition(")")[2].split()[:2]
    return state != "Z" and int(ppid) == parent
