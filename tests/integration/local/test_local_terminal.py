"""`make run` and its surroundings: terminal, environment, logs, data of other versions."""

import contextlib
import fcntl
import itertools
import json
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import psutil
import pytest
from pydantic import SecretStr

from local.app_processes import answers
from local.launcher import StopRequests, run
from local.log_file import LOG_BYTES, rotate
from local.processes.process import CannotStart, Part, Process
from local.state import State
from shared.proxies import sparing_own_servers, without_proxies
from shared.settings import Settings
from tests.integration.local.test_local_launcher import READY_SECONDS, processes_of
from tests.support.ports import free_port
from tests.support.processes import until
from tests.support.stack import ROOT

pytestmark = pytest.mark.long

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
CHATTY = """
import sys, time
line = "x" * 998 + "\\n"
while True:
    for _ in range(1000):
        sys.stdout.write(line)
    sys.stdout.flush()
    time.sleep(0.05)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    parent = Path(tempfile.mkdtemp(prefix="stillreel-run-")).resolve()
    parent.chmod(0o711)
    yield parent / "data"
    for process in processes_of(parent / "data"):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    shutil.rmtree(parent)


class Terminal:
    """A launcher and the place of its output: a terminal of its own, or a pipe."""

    def __init__(self, folder: Path, port: int, *, is_pipe: bool, ignores_hangup: bool) -> None:
        self.said = b""
        self._read, write = os.pipe() if is_pipe else pty.openpty()

        def settle_in() -> None:
            if not is_pipe:
                fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            signal.signal(signal.SIGHUP, signal.SIG_IGN if ignores_hangup else signal.SIG_DFL)

        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.launch"],
            cwd=ROOT,
            env={**os.environ, "STILLREEL_DATA_DIR": str(folder), "PORT": str(port)},
            stdin=subprocess.DEVNULL if is_pipe else write,
            stdout=write,
            stderr=write,
            start_new_session=True,
            preexec_fn=settle_in,
        )
        os.close(write)

    def read_until_ready(self) -> None:
        guard = threading.Timer(READY_SECONDS, self.process.kill)
        guard.start()
        while b"stops everything" not in self.said:
            piece = os.read(self._read, 65536)
            assert piece, self.said
            self.said += piece
        guard.cancel()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._read)

    def end(self) -> None:
        self.close()
        self.process.kill()
        self.process.wait()


@pytest.fixture
def terminal(folder: Path) -> Iterator[Callable[..., Terminal]]:
    with contextlib.ExitStack() as opened:

        def terminal(*, is_pipe: bool, ignores_hangup: bool = False) -> Terminal:
            it = Terminal(folder, free_port(), is_pipe=is_pipe, ignores_hangup=ignores_hangup)
            opened.callback(it.end)
            return it

        yield terminal


@pytest.mark.extended
@pytest.mark.parametrize(
    ("is_pipe", "ignores_hangup"),
    [
        pytest.param(True, False, id="a pipe"),
        pytest.param(False, False, id="a terminal"),
        pytest.param(False, True, id="an ignored hangup"),
    ],
)
def test_when_nobody_can_read_it_any_more_every_part_is_stopped(
    terminal: Callable[..., Terminal], folder: Path, is_pipe: bool, ignores_hangup: bool
) -> None:
    it = terminal(is_pipe=is_pipe, ignores_hangup=ignores_hangup)
    it.read_until_ready()
    assert len(processes_of(folder)) >= 5
    it.close()
    assert it.process.wait(READY_SECONDS) == 0
    assert processes_of(folder) == []
    assert (folder / "drained").exists()


# In `make test`, the next test checks what parts keep of a proxy, and test_foreign_store.py checks
# that the store is never asked through a proxy.
@pytest.mark.extended
def test_an_ignored_hangup_stays_so_and_no_part_hears_of_a_proxy(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    said = folder.with_name("said")
    with socket.create_server(("127.0.0.1", 0)) as proxy, said.open("wb") as out:
        for name in PROXIES:
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.setenv("NO_PROXY", "")
        monkeypatch.setenv("no_proxy", "")
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.launch"],
            cwd=ROOT,
            env={**os.environ, "STILLREEL_DATA_DIR": str(folder), "PORT": str(port)},
            stdout=out,
            stderr=out,
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
        )
        try:
            until(lambda: b"ready:" in said.read_bytes(), "it is ready", within=READY_SECONDS)
            process.send_signal(signal.SIGHUP)
            # The launcher checks for signals every twentieth of a second.
            time.sleep(2)
            assert process.poll() is None
            assert b"stopping" not in said.read_bytes()
            assert answers(f"http://127.0.0.1:{port}")
            told = [set(it.environ()) & {*PROXIES, "NO_PROXY"} for it in processes_of(folder)]
            assert len(told) >= 5
            assert set().union(*told) == set()
        finally:
            process.terminate()
            assert process.wait(READY_SECONDS) == 0
        proxy.setblocking(False)
        with pytest.raises(BlockingIOError):
            proxy.accept()


def test_what_downloads_keeps_the_proxy_and_spares_our_own_servers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as dead:
        address = f"http://127.0.0.1:{dead.getsockname()[1]}"
    for name in PROXIES:
        monkeypatch.setenv(name, address)
    monkeypatch.setenv("NO_PROXY", "intra.example.org")
    settings = Settings(
        _env_file=None,
        s3_endpoint="https://store.example.org",
        database_url=SecretStr("postgres://u:p@db.example.org/d"),
        redis_url=SecretStr("redis://cache.example.org"),
    )
    spared = sparing_own_servers(os.environ, settings)
    assert spared["NO_PROXY"] == spared["no_proxy"]
    hosts = spared["NO_PROXY"].split(",")
    assert {"intra.example.org", "store.example.org", "db.example.org"} <= set(hosts)
    assert {"cache.example.org", "127.0.0.1", "localhost", "::1"} <= set(hosts)

    script = "import http.server as h; s = h.HTTPServer(('127.0.0.1', {}), h.SimpleHTTPRequestHandler); s.serve_forever()"  # noqa: E501
    port = free_port()
    part = Part(
        name="server",
        argv=(sys.executable, "-c", script.format(port)),
        log=tmp_path / "log",
        cwd=tmp_path,
        uses_proxy=True,
        ready=lambda: answers(f"http://127.0.0.1:{port}"),
    )
    server = Process(part)
    try:
        server.wait_ready()
        assert psutil.Process(server.pid).environ()["HTTP_PROXY"] == address
        with pytest.raises(httpx2.TransportError):
            httpx2.get(f"http://127.0.0.1:{port}", timeout=10)
        for name, value in spared.items():
            monkeypatch.setenv(name, value)
        assert httpx2.get(f"http://127.0.0.1:{port}", timeout=10).status_code == 200
    finally:
        server.kill()
    assert not set(without_proxies(os.environ)) & {*PROXIES, "NO_PROXY", "no_proxy"}


@pytest.fixture
def requests() -> Iterator[StopRequests]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield StopRequests()
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_log_stays_bounded_while_its_part_writes_it(
    tmp_path: Path, requests: StopRequests
) -> None:
    log = tmp_path / "chatty.log"
    part = Part(name="chatty", argv=(sys.executable, "-c", CHATTY), log=log, cwd=tmp_path)
    earlier = tmp_path / "chatty.log.1"
    deadline = time.monotonic() + READY_SECONDS
    sizes: list[int] = []

    def look() -> None:
        """End the run after the log was emptied twice."""
        sizes.append(log.stat().st_size)
        shrunk = sum(after < before for before, after in itertools.pairwise(sizes))
        if shrunk >= 2 or time.monotonic() > deadline:
            requests.count = 2

    run((part,), (), tmp_path, requests, on_serving=look)
    assert time.monotonic() < deadline
    assert LOG_BYTES * 0.9 < earlier.stat().st_size <= LOG_BYTES
    assert max(sizes) < 5 * LOG_BYTES
    assert set(earlier.read_text().splitlines()[:-1]) == {"x" * 998}
    assert "\0" not in log.read_text()


def test_a_log_is_emptied_even_where_the_disk_takes_no_more(tmp_path: Path) -> None:
    log = tmp_path / "part.log"
    log.write_bytes(b"x" * 100 + b"\n")
    # As a folder, it can be neither removed as a file nor written.
    (tmp_path / "part.log.1").mkdir()
    rotate(log, 50)
    assert log.stat().st_size == 0
    rotate(tmp_path / "missing.log")


def refusal(folder: Path, **env: str) -> str:
    """Return the sentence that refuses a start, and check that no server was started."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.launch"],
        cwd=ROOT,
        env={**os.environ, "STILLREEL_DATA_DIR": str(folder), "PORT": str(free_port()), **env},
        capture_output=True,
        text=True,
        timeout=READY_SECONDS,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    [line] = (done.stdout + done.stderr).strip().splitlines()
    assert list((folder / "logs").iterdir()) == []
    return line


@pytest.mark.parametrize(
    ("env", "what"),
    [
        ({"STILLREEL_ENGINES": "sora"}, "STILLREEL_ENGINES names 'sora'; known are"),
        pytest.param(
            {"STILLREEL_ENGINES": "mine=not_there:It"},
            "STILLREEL_ENGINES names mine=not_there:It",
            marks=pytest.mark.extended,
        ),
        pytest.param(
            {"STILLREEL_GPUS": "7"},
            "STILLREEL_GPUS names 7; the cards of this host are: none",
            marks=pytest.mark.extended,
        ),
        pytest.param(
            {"CUDA_VISIBLE_DEVICES": "GPU-1"},
            "CUDA_VISIBLE_DEVICES names GPU-1",
            marks=pytest.mark.extended,
        ),
        pytest.param(
            {"STILLREEL_MODEL_DIR": "/not/there"},
            "STILLREEL_MODEL_DIR names /not/there",
            marks=pytest.mark.extended,
        ),
        ({"HOST": "0.0.0.0"}, "STILLREEL_HOST 0.0.0.0 is not loopback"),  # noqa: S104
    ],
)
def test_a_setting_is_refused_before_any_server_is_started(
    folder: Path, env: dict[str, str], what: str
) -> None:
    assert refusal(folder, **env).startswith(what)


@pytest.mark.parametrize(
    ("theirs", "whose"),
    [
        ("19", "a newer"),
        pytest.param("17", "an older", marks=pytest.mark.extended),
    ],
)
def test_data_of_another_postgres_are_named_so(folder: Path, theirs: str, whose: str) -> None:
    (folder / "pg").mkdir(parents=True)
    (folder / "pg" / "PG_VERSION").write_text(f"{theirs}\n")
    State().save(folder)
    said = refusal(folder)
    assert f"by {whose} version of Stillreel (Postgres {theirs}, and this one runs 18)" in said


def test_a_state_file_of_a_newer_version_is_named_so_and_left_alone(folder: Path) -> None:
    folder.mkdir()
    State().save(folder)
    path = folder / "state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "added_later": "x"}))
    before = path.read_bytes()
    said = refusal(folder)
    assert "by a newer version of Stillreel (state.json holds added_later," in said
    assert "damaged" not in said
    assert path.read_bytes() == before


@pytest.mark.parametrize("text", ["[]", "7", "{", '{"ports": "x"}', '{"worker_id": 7}'])
def test_a_damaged_state_file_is_called_damaged(folder: Path, text: str) -> None:
    folder.mkdir()
    (folder / "state.json").write_text(text)
    with pytest.raises(CannotStart, match="is damaged"):
        State.load(folder)
