"""Starting and stopping the gateway: quickly, without model libraries, or with one sentence."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from api.__main__ import main
from local import ports
from tests.processes import Program, until
from tests.stack import ROOT

START_SECONDS = 2.0
SLOW_MACHINE = 10


def free_port() -> int:
    return next(port for port in iter(ports.another, None) if ports.is_free(port))


def test_it_serves_soon_without_any_service_and_stops_in_order(tmp_path: Path) -> None:
    port = free_port()
    began = time.monotonic()
    program = Program("api", os.environ | bare_env(port=port), tmp_path / "gateway.log")
    try:
        until(lambda: answers(port), "the gateway serves")
        assert time.monotonic() - began < START_SECONDS * SLOW_MACHINE
        assert program.terminate() == 0
    finally:
        program.kill()


def test_it_imports_no_model_library_and_nothing_of_the_worker() -> None:
    code = (
        "import sys; from api.app import create_app; import api.__main__;"
        "print({m.split('.')[0] for m in sys.modules}"
        " & {'torch', 'diffusers', 'transformers', 'worker', 'numpy'})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "set()", done.stderr


def refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], **settings: object
) -> str:
    """Return what the gateway says instead of starting."""
    for name, value in bare_env(**settings).items():
        monkeypatch.setenv(name, value)
    assert main() == 1
    return capsys.readouterr().err


def test_a_port_in_use_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        said = refused(monkeypatch, capsys, port=port)
    assert said == f"port {port} is in use; stop what holds it, or set STILLREEL_PORT\n"


def test_an_open_address_is_refused_unless_that_is_meant(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(monkeypatch, capsys, host="0.0.0.0", port=free_port())  # noqa: S104
    assert "STILLREEL_ALLOW_ANONYMOUS=1" in said
    assert said.count("\n") == 1


def answers(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/livez", timeout=5).ok
    except requests.ConnectionError:
        return False


def bare_env(**settings: object) -> dict[str, str]:
    return {f"STILLREEL_{name.upper()}": str(value) for name, value in settings.items()}
