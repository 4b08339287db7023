"""The supervisor, and children that die at an unlucky moment."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.settings import Settings
from worker.supervisor import supervisor as supervising
from worker.supervisor.supervisor import Supervisor
from worker.supervisor.worker_config import WorkerConfig


@pytest.fixture
def ended() -> int:
    """The pid of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def alive() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    yield process
    process.kill()
    process.wait()


def test_a_hung_child_that_dies_before_it_is_killed_ends_nobody(
    ended: int,
    alive: subprocess.Popen[bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = WorkerConfig(
        worker="host-cpu0",
        heartbeat_path=str(tmp_path / "slot"),
        device="cpu",
        cuda_visible_devices="",
        device_name=None,
        vram_bytes=None,
        engines={},
    )
    supervisor = Supervisor(
        Settings(_env_file=None), [place], give_up=lambda name: None, hand_back=lambda name: None
    )
    [worker] = supervisor._workers
    worker.process = alive
    worker.heartbeat_file.register_child(ended, 1)
    worker.heartbeat_file.beat(-2 * supervising.HUNG_MARGIN_SECONDS)  # It is overdue at once.
    # The child was still alive when the supervisor looked: this is the race.
    monkeypatch.setattr(supervising, "_is_child_of", lambda pid, parent: True)
    supervisor.watch()
    assert alive.poll() is None
    worker.heartbeat_file.close()
