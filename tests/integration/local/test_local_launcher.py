"""`make run` on real servers: what any user can rely on, no matter how the run ends."""

import contextlib
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias, TypeVar

import psutil
import pytest

from local.app_processes import TEMPORARY, answers
from local.processes.process import MARK
from local.servers.services import PORTS, choose_ports, service_env
from local.state import State
from shared.storage import Storage
from tests.support.ports import free_port, service_ports
from tests.support.servers import connect, settings_from
from tests.support.stack import ROOT

pytestmark = pytest.mark.long

T = TypeVar("T")

READY_SECONDS = 60  # A launcher that takes longer has hung, even on a busy machine.
ORDINARY = (
    ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
    ("unshare", "--user", "--map-user=1000", "--map-group=1000"),
)


class Launched:
    """A launcher in a process of its own; its output goes to a file."""

    def __init__(self, folder: Path, port: int, *, as_user: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.address = f"http://127.0.0.1:{port}"
        self._said = Path(tempfile.mkstemp(prefix="stillreel-said-")[1])
        with self._said.open("w") as said:
            self.process = subprocess.Popen(
                [*as_user, sys.executable, "-m", "tests.support.launch"],
                cwd=ROOT,
                env={**os.environ, "STILLREEL_DATA_DIR": str(folder), "PORT": str(port)},
                stdout=said,
                stderr=subprocess.STDOUT,
            )

    @property
    def said(self) -> str:
        return self._said.read_text()

    def wait_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while "ready:" not in self.said:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.05)

    def refusal(self) -> str:
        """Return the one sentence of its refusal."""
        assert self.process.wait(READY_SECONDS) == 1
        return self.said.strip()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(READY_SECONDS) == 0, self.said

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        # Some processes end with the launcher, and may be gone before this kills them.
        seen(processes_of(self.folder), psutil.Process.kill)
        self._said.unlink()


Launch: TypeAlias = Callable[..., Launched]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that any user may enter, unlike pytest's own folders."""
    parent = Path(tempfile.mkdtemp(prefix="stillreel-run-")).resolve()
    parent.chmod(0o711)
    yield parent / "data"
    shutil.rmtree(parent)


@pytest.fixture
def launch(folder: Path) -> Iterator[Launch]:
    with contextlib.ExitStack() as launched:

        def launch(
            folder: Path = folder, *, port: int | None = None, as_user: tuple[str, ...] = ()
        ) -> Launched:
            it = Launched(folder, port or free_port(), as_user=as_user)
            launched.callback(it.end)
            return it

        yield launch


def processes_of(folder: Path) -> list[psutil.Process]:
    """Return the processes of this data folder; Postgres is recognised by its working folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == str(folder) or process.cwd() == str(folder / "pg"):
                found.append(process)
    return found


def seen(processes: list[psutil.Process], look: Callable[[psutil.Process], T]) -> list[T]:
    """Return the results of looks at processes that still exist; Postgres' backends end often."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            found.append(look(process))
    return found


def modes(folder: Path) -> dict[Path, tuple[int, int]]:
    """Return mode and owner of a folder and of every one above it."""
    return {path: (path.stat().st_mode, path.stat().st_uid) for path in (folder, *folder.parents)}


def ordinary_user() -> tuple[str, ...]:
    """Return the command that runs another as an ordinary user; nothing if this user is one."""
    if os.geteuid() != 0:
        return ()
    python = f"exec {sys.executable} -c 'import local.processes.process'"
    for way in ORDINARY:
        # A shell is between them, because setpriv itself can still read what only root may.
        if subprocess.call([*way, "sh", "-c", python], cwd=ROOT, stderr=subprocess.DEVNULL) == 0:
            return way
    raise AssertionError("no way to be an ordinary user here")


def storage(state: State) -> Storage:
    return Storage(settings_from(service_env(state)))


def test_it_starts_refuses_a_second_one_and_stops_without_a_trace(
    launch: Launch, folder: Path
) -> None:
    folder.mkdir(mode=0o755)
    (folder / "pg.new").mkdir()  # A killed initdb leaves this.
    (folder / "pg.new" / "PG_VERSION").write_text("18")
    (folder / TEMPORARY).mkdir()  # A killed worker leaves this.
    (folder / TEMPORARY / "left").touch()
    before = modes(folder)
    first = launch()
    first.wait_ready()

    assert modes(folder) == before
    assert not (folder / TEMPORARY / "left").exists()
    assert stat.S_IMODE((folder / "state.json").stat().st_mode) == 0o600
    assert answers(first.address)
    assert State.load(folder).gateway == first.address
    assert f"gateway {first.address}" in re.sub(" +", " ", first.said)
    for secret in (State.load(folder).postgres_password, State.load(folder).valkey_password):
        lines = seen(processes_of(folder), lambda process: " ".join(process.cmdline()))
        assert lines
        assert not [line for line in lines if secret in line]

    assert re.fullmatch(
        rf"another `make run` \(pid {first.process.pid}\) is using {folder}; stop it with Ctrl-C,"
        " or set STILLREEL_DATA_DIR and PORT to run a second one beside it",
        launch(port=free_port()).refusal(),
    )
    assert answers(first.address)

    first.stop()
    assert processes_of(folder) == []
    assert (folder / "drained").exists()
    stopped = re.findall(r"(\w+) +stopped after", first.said)
    assert stopped == ["gateway", "worker", "s3", "valkey", "postgres"]


@pytest.mark.extended
def test_a_killed_launcher_is_cleaned_up_after_by_the_next_and_nothing_is_lost(
    launch: Launch, folder: Path
) -> None:
    first = launch()
    first.wait_ready()
    state = State.load(folder)
    with connect(state, "stillreel") as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    storage(state).put("kept", b"7", content_type="text/plain")
    before = processes_of(folder)

    first.process.kill()
    first.process.wait()
    second = launch()
    second.wait_ready()

    assert not set(before) & set(processes_of(folder))
    assert seen(processes_of(folder), psutil.Process.name).count("weed") == 1
    # Another run's servers may have taken a port meanwhile.
    after = State.load(folder)
    assert replace(after, ports=state.ports, gateway=state.gateway) == state
    with connect(after, "stillreel") as connection:
        assert connection.execute("SELECT number FROM kept").fetchone() == (7,)
    assert storage(after).get("kept") == b"7"
    assert (folder / "drained").exists()


@pytest.mark.extended
def test_an_ordinary_user_can_run_it(launch: Launch, folder: Path) -> None:
    as_user = ordinary_user()
    if as_user == ORDINARY[0]:
        os.chown(folder.parent, 65534, 65534)
    launched = launch(as_user=as_user)
    launched.wait_ready()
    assert answers(launched.address)
    launched.stop()
    assert processes_of(folder) == []


@pytest.mark.extended
def test_a_user_without_a_name_is_told_so_before_anything_is_made(
    launch: Launch, folder: Path
) -> None:
    nameless = ("unshare", "--user", "--map-user=4000000", "--map-group=4000000")
    if subprocess.call([*nameless, "true"], stderr=subprocess.DEVNULL) != 0:
        pytest.skip("nobody can be another user here")
    said = launch(as_user=nameless).refusal()
    assert said.startswith("user 4000000 has no name in /etc/passwd, and Postgres does not start")
    assert not folder.exists()


def test_a_busy_port_is_named_with_its_holder_and_nothing_is_started(
    launch: Launch, folder: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        holder = f"{psutil.Process().name()} (pid {os.getpid()})"
        assert launch(port=port).refusal() == (
            f"port {port} is in use by {holder}; stop that, or choose another port:"
            f" make run PORT={port + 1}"
        )
    assert {path.name for path in folder.iterdir()} == {"lock", "logs"}


def test_a_folder_that_cannot_be_made_is_named_with_the_setting(
    launch: Launch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    assert launch(tmp_path / "file" / "data").refusal() == (
        f"the data folder {tmp_path}/file/data cannot be used (Not a directory);"
        " set STILLREEL_DATA_DIR to one that this user may write to"
    )


def test_an_address_of_another_machine_is_not_called_a_busy_port(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOST", "192.0.2.1")
    # The launcher checks this setting before it checks the port.
    monkeypatch.setenv("STILLREEL_ALLOW_ANONYMOUS", "1")
    assert launch(port=7860).refusal() == (
        "the gateway cannot listen on 192.0.2.1, port 7860 (Cannot assign requested address);"
        " choose others with HOST and PORT"
    )


def test_a_lost_state_file_is_told_and_not_drawn_anew(launch: Launch, folder: Path) -> None:
    (folder / "pg").mkdir(parents=True)
    assert launch().refusal() == (
        f"{folder}/state.json is missing, and it has the password of the database beside it;"
        f" put it back, or move {folder} away to start again"
    )


def test_a_service_whose_port_was_taken_moves_to_another() -> None:
    usual = service_ports()
    with socket.create_server(("127.0.0.1", usual["postgres"])):
        chosen = choose_ports(usual)
    assert chosen["postgres"] != usual["postgres"]
    assert len({*chosen.values()}) == len(PORTS)


@pytest.mark.extended
def test_starts_at_the_same_moment_take_different_ports(launch: Launch, folder: Path) -> None:
    folders = [folder.with_name(name) for name in ("one", "two")]
    wanted = service_ports()
    for each in folders:
        each.mkdir()
        State(ports=wanted).save(each)
    starts = [launch(each) for each in folders]
    for start in starts:
        start.wait_ready()
        assert "starting it again" not in start.said
    taken = [port for each in folders for port in State.load(each).ports.values()]
    assert len({*taken}) == len(taken)


def test_no_service_takes_the_port_of_the_gateway() -> None:
    usual = service_ports()
    chosen = choose_ports(usual, kept=usual["s3"])
    assert usual["s3"] not in chosen.values()
