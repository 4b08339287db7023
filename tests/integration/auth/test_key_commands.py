"""`python -m api keys` and `make key`, as a person uses them in a shell."""

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from api.__main__ import main
from local.servers.postgres import DATABASE
from tests.support.gateway import Gateway
from tests.support.processes import until
from tests.support.servers import connect
from tests.support.stack import ROOT, Stack
from tests.support.tenants import EVENTS, Holder, KeyAdmin

KEY = re.compile(r"sr_[A-Za-z0-9]{12}_[A-Za-z0-9]{43}\n")
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(
    module_stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Run `python -m api keys …`; return its status, stdout and stderr."""

    def run(*arguments: str, **settings: Any) -> tuple[int, str, str]:
        for name, value in module_stack.env(**settings).items():
            if name.startswith("STILLREEL_"):
                monkeypatch.setenv(name, value)
        try:
            status = main(["keys", *arguments])
        except SystemExit as error:  # argparse ends this way.
            status = int(error.code or 0)
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


def test_a_key_is_printed_once_and_only_its_hash_is_kept(
    command: Command, key_admin: KeyAdmin, tenant_a: Gateway
) -> None:
    status, out, err = command("create", "cms", "--max-queued", "7", "--max-running", "2")
    assert status == 0
    assert KEY.fullmatch(out)
    given = out.strip()
    assert given not in err
    with key_admin.db.autocommit() as connection:
        (row,) = connection.execute(text("SELECT * FROM api_keys")).mappings().all()
    assert row["key_sha256"] == hashlib.sha256(given.encode()).hexdigest()
    assert given.rsplit("_", 1)[1] not in str(row)
    assert (row["is_admin"], row["max_queued"], row["max_running"]) == (False, 7, 2)
    assert Holder(tenant_a, given).get(EVENTS).status_code == 200
    _, listed, _ = command("list")
    assert re.search(rf"^cms +{row['prefix']} +7 +2 ", listed, re.MULTILINE)
    assert given not in listed


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (("create", "cms"), 1, "there is or was a key named cms"),
        (("create", "a b"), 1, "a key's name has"),
        (("create", ""), 1, "a key's name has"),
        (("create", "x" * 65), 1, "a key's name has"),
        (("create", "new", "--max-queued", "0"), 2, "a whole number from 1 on"),
        (("revoke", "cmz"), 1, "there is no key named cmz; there are: cms"),
        (("rotate", "cmz"), 1, "there is no key named cmz; there are: cms"),
        (("rotate", "cms", "--overlap", "25"), 2, "hours from 0 to 24"),
        (("rotate", "cms", "--overlap", "nan"), 2, "hours from 0 to 24"),
        (("rotate", "cms", "--overlap", "-1"), 2, "--overlap"),
        (("destroy", "cms"), 2, "invalid choice"),
        ((), 2, "required"),
    ],
)
def test_a_command_that_cannot_be_done_says_why_in_one_line(
    command: Command,
    key_admin: KeyAdmin,
    arguments: tuple[str, ...],
    status: int,
    sentence: str,
) -> None:
    key_admin.keys.create("cms")
    found, out, err = command(*arguments)
    assert (found, out) == (status, "")
    assert sentence in err
    # With status 2 the usage precedes the sentence.
    assert status == 2 or err.count("\n") == 1
    assert [key.name for key in key_admin.keys.all()] == ["cms"]


def test_the_command_revokes_by_name(
    command: Command, key_admin: KeyAdmin, tenant_a: Gateway
) -> None:
    key, cms = key_admin.holder(tenant_a, "cms")
    assert cms.get(EVENTS).status_code == 200
    status, out, _ = command("revoke", "cms")
    assert (status, key.prefix in out) == (0, True)
    until(lambda: cms.get(EVENTS).status_code == 401, "it is out")
    assert command("create", "cms")[0] == 1


def test_the_command_rotates_by_name_and_says_until_when_the_old_one_works(
    command: Command, key_admin: KeyAdmin, tenant_a: Gateway
) -> None:
    key, cms = key_admin.holder(tenant_a, "cms")
    status, out, err = command("rotate", "cms", "--overlap", "0.5")
    assert status == 0
    assert KEY.fullmatch(out)
    assert out.strip() not in err
    new = Holder(tenant_a, out.strip())
    assert new.get(EVENTS).status_code == cms.get(EVENTS).status_code == 200
    (kept,) = key_admin.keys.all()
    assert (kept.id, kept.prefix, kept.previous_works_until is None) == (key.id, key.prefix, False)
    until_when = f"{kept.previous_works_until:%Y-%m-%d %H:%M}"
    assert f"the old one works until {until_when} UTC" in err
    assert until_when in command("list")[1]
    status, out, err = command("rotate", "cms")
    assert (status, "the old one no longer works" in err) == (0, True)
    assert Holder(tenant_a, out.strip()).get(EVENTS).status_code == 200
    ended = (cms, new)
    until(lambda: {who.get(EVENTS).status_code for who in ended} == {401}, "both are out")
    command("revoke", "cms")
    assert command("rotate", "cms")[::2] == (
        1,
        "this key was revoked, which is for good; make a new one\n",
    )


def test_without_postgres_or_tables_the_command_says_so(
    command: Command, module_stack: Stack
) -> None:
    away = "postgresql+psycopg://nobody@127.0.0.1:9/nothing"
    status, _, err = command("list", database_url=away)
    assert (status, err.count("\n")) == (1, 1)
    assert "the database cannot be used" in err
    assert "port 9 failed: Connection refused" in err
    url = module_stack.settings().database_url.get_secret_value()
    empty = url.replace(module_stack.database, "postgres")
    status, _, err = command("create", "cms", database_url=empty)
    assert (status, err.count("\n")) == (1, 1)
    assert 'relation "api_keys" does not exist); run `alembic upgrade head`' in err


def test_make_key_finds_the_database_of_make_run(stack: Stack, tmp_path: Path) -> None:
    servers = stack.servers
    with connect(servers.state) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {DATABASE}")
        connection.execute(f"CREATE DATABASE {DATABASE} TEMPLATE {stack.database}")
    argv = ["make", "-s", "key", f"BIN={Path(sys.executable).parent}", "NAME=cms", "ADMIN=1"]

    def make(folder: Path) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "STILLREEL_DATA_DIR": str(folder)}
        return subprocess.run(
            argv, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False
        )

    done = make(servers.folder)
    assert KEY.fullmatch(done.stdout), done.stderr
    with connect(servers.state, DATABASE) as connection:
        found = connection.execute("SELECT name, is_admin FROM api_keys").fetchall()
    assert found == [("cms", True)]
    refused = make(tmp_path / "none")
    assert (refused.returncode != 0, refused.stdout) == (True, "")
    assert "nothing has run in" in refused.stderr
