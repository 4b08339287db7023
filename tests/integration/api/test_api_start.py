"""The gateway starts and stops quickly without model libraries, or refuses with one sentence."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from api.__main__ import is_open, main
from local.processes.supervisor import REFUSED
from tests.support.gateway import ADMIN_KEY
from tests.support.ports import free_port
from tests.support.processes import Program, until
from tests.support.stack import ROOT, Stack
from tests.support.tenants import key_admin_of

START_SECONDS = 2.0
SLOW_MACHINE = 10
NO_SERVICE = {
    "database_url": "postgresql+psycopg://nobody@127.0.0.1:9/nothing",
    "redis_url": "redis://127.0.0.1:9/0",
    "s3_endpoint": "http://127.0.0.1:9",
}
EVERYWHERE = "0.0.0.0"  # noqa: S104 (what the gateway must not do)


def test_it_serves_soon_without_any_service_and_stops_in_order(tmp_path: Path) -> None:
    port = free_port()
    began = time.monotonic()
    program = Program(
        "api", os.environ | bare_env(port=port, **NO_SERVICE), tmp_path / "gateway.log"
    )
    try:
        until(lambda: answers(port), "the gateway serves")
        assert time.monotonic() - began < START_SECONDS * SLOW_MACHINE
        assert program.terminate() == 0
    finally:
        program.kill()


def refused(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    status: int = 1,
    **settings: object,
) -> str:
    """Return the error that the gateway prints instead of starting."""
    for name, value in bare_env(**settings).items():
        monkeypatch.setenv(name, value)
    assert main() == status
    return capsys.readouterr().err


@pytest.mark.parametrize(
    "module", ["api", pytest.param("worker.keeper", marks=pytest.mark.extended)]
)
def test_without_a_secret_it_does_not_start_and_says_how_to_make_one(module: str) -> None:
    """Each process would draw its own secret, and a link of one would fail in another."""
    done = subprocess.run(
        [sys.executable, "-m", module],
        cwd=ROOT,
        env=os.environ | bare_env(port=free_port(), **NO_SERVICE, secret=""),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode not in {0, None}
    assert done.stderr.startswith("the settings are wrong: STILLREEL_SECRET is missing")
    assert "secrets.token_hex(32)" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_port_in_use_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        said = refused(monkeypatch, capsys, port=port)
    assert said == f"port {port} is in use; stop what holds it, or set STILLREEL_PORT\n"


def test_an_open_address_is_refused_while_there_is_no_key(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = stack.settings().database_url.get_secret_value()
    said = refused(
        monkeypatch, capsys, status=REFUSED, host=EVERYWHERE, port=free_port(), database_url=url
    )
    assert said.startswith("STILLREEL_HOST 0.0.0.0 is not loopback")
    assert "make key NAME=cms" in said
    assert "STILLREEL_ALLOW_ANONYMOUS=1" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "said",
    [
        {"admin_key": ADMIN_KEY},
        {"allow_anonymous": True},
        {"trusted_header": "Remote-User", "trusted_proxy": "10.1.2.3/32"},
        {"host": "127.0.0.1"},
        {"database_url": "postgresql+psycopg://nobody@127.0.0.1:9/nothing"},
    ],
)
def test_an_open_address_is_served_where_it_is_said_or_unknown_who_may(
    module_stack: Stack, said: dict[str, object]
) -> None:
    assert is_open(module_stack.settings(host=EVERYWHERE))
    assert not is_open(module_stack.settings(**{"host": EVERYWHERE} | said))


def test_an_open_address_is_served_to_keys_alone_even_after_the_last_was_revoked(
    stack: Stack, tmp_path: Path
) -> None:
    with key_admin_of(stack.settings()) as locksmith:
        key, _ = locksmith.keys.create("cms")
        locksmith.keys.revoke(key.id)
    port = free_port()
    env = stack.env(host=EVERYWHERE, port=port)
    program = Program("api", env, tmp_path / "gateway.log")
    try:
        until(lambda: answers(port), "the gateway serves")
        asked = requests.get(f"http://127.0.0.1:{port}/v1/models", timeout=30)
        assert asked.status_code == 401
    finally:
        program.kill()


def answers(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/livez", timeout=5).ok
    except requests.RequestException:  # A starting server accepts connections before it answers.
        return False


def bare_env(**settings: object) -> dict[str, str]:
    given = {"secret": "s" * 32} | settings
    return {f"STILLREEL_{name.upper()}": str(value) for name, value in given.items()}
