"""The passwords of a compose installation are drawn once."""

import json
import os
import ssl
import stat
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from deploy import draw_secrets
from deploy.draw_secrets import AUTHORITY, PAIR, Drawn, draw, files
from shared.certificates import LIFE, Certificates
from shared.settings import SECRETS_DIR_VARIABLE, Settings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with all secrets, drawn for the user who runs the tests."""
    draw(tmp_path, owner=os.geteuid())
    return tmp_path


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_nobody_but_its_owner_may_read_a_secret(folder: Path) -> None:
    modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.is_file()}
    assert modes == {0o400}


def test_a_second_drawing_changes_nothing(folder: Path) -> None:
    before = contents(folder)
    draw(folder, owner=os.geteuid())
    assert contents(folder) == before


def test_two_installations_share_no_secret(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    draw(other, owner=os.geteuid())
    drawn, others = (json.loads((f / "drawn.json").read_text()) for f in (folder, other))
    assert not set(drawn.values()) & set(others.values())
    assert min(map(len, drawn.values())) >= 20


def test_a_new_version_adds_its_secret_and_keeps_the_old_ones(folder: Path) -> None:
    kept = folder / "drawn.json"
    older = json.loads(kept.read_text())
    del older["grafana_password"]
    kept.unlink()
    kept.write_text(json.dumps(older))
    (folder / "grafana" / "password").unlink()
    draw(folder, owner=os.geteuid())
    now = json.loads(kept.read_text())
    assert now.items() > older.items()
    assert (folder / "grafana" / "password").read_text() == now["grafana_password"]


def test_the_servers_and_our_processes_are_told_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECRETS_DIR_VARIABLE, str(folder / "app"))
    settings = Settings(_env_file=None)
    database = make_url(settings.database_url.get_secret_value())
    assert database.password == (folder / "postgres" / "password").read_text()
    password = (folder / "valkey" / "password").read_text()
    assert f":{password}@" in settings.redis_url.get_secret_value()
    assert password in (folder / "valkey" / "valkey.conf").read_text()
    assert settings.secrets == (json.loads((folder / "drawn.json").read_text())["secret"],)
    identity = json.loads((folder / "s3" / "identities.json").read_text())["identities"][0]
    assert identity["credentials"] == [
        {
            "accessKey": settings.s3_access_key.get_secret_value(),
            "secretKey": settings.s3_secret_key.get_secret_value(),
        }
    ]


def test_the_store_finds_what_closes_its_inner_ports(folder: Path) -> None:
    store = folder / "s3"
    told = tomllib.loads((store / "security.toml").read_text())
    assert {told["grpc"]["ca"], told["https"]["client"]["ca"]} == {AUTHORITY}
    assert told["https"]["master"]["cert"] == told["grpc"]["s3"]["key"] == PAIR
    assert len({told["jwt"]["signing"]["key"], told["jwt"]["filer_signing"]["key"]}) == 2
    context = ssl.create_default_context(cafile=store / AUTHORITY)
    context.load_cert_chain(store / PAIR)


def test_a_certificate_near_its_end_is_renewed_and_the_authority_stays(folder: Path) -> None:
    kept = folder / "drawn.json"
    aged = Certificates.draw(datetime.now(UTC) - 0.6 * LIFE)
    drawn = json.loads(kept.read_text()) | {
        "store_authority": aged.authority,
        "store_authority_key": aged.authority_key,
        "store_pair": aged.pair,
    }
    kept.unlink()
    kept.write_text(json.dumps(drawn))
    draw(folder, owner=os.geteuid())
    now = contents(folder)
    assert now[f"s3/{AUTHORITY}"] == aged.authority
    assert now[f"s3/{PAIR}"] != aged.pair


def test_each_file_goes_to_its_reader_and_the_draft_to_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, int] = {}

    def note(path: Any, owner: int, group: int) -> None:
        assert owner == group
        given[str(Path(path).relative_to(tmp_path))] = owner

    monkeypatch.setattr(os, "chown", note)  # Only root may give files away.
    (tmp_path / "store").mkdir()
    assert draw_secrets.main(str(tmp_path), str(tmp_path / "store")) == 0
    wanted = {
        str(Path(file.path).with_name(f".{Path(file.path).name}.new")): file.owner
        for file in files(Drawn())
    }
    root = os.geteuid()
    assert given == {**wanted, ".drawn.json.new": root, "store": draw_secrets.STORE}
    assert not list(tmp_path.rglob("*.new"))


def test_a_drawn_secret_is_not_shown() -> None:
    drawn = Drawn()
    shown = repr(drawn) + "".join(map(repr, files(drawn)))
    assert drawn.postgres_password not in shown
    assert drawn.s3_secret_key not in shown
