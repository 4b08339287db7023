"""The settings as a person writes them."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from local.app_processes import ROOT
from local.cli_settings import read_settings, strange_settings
from local.processes.process import CannotStart
from shared.settings import Settings


@pytest.fixture(autouse=True)
def _no_env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HOST", raising=False)
    monkeypatch.delenv("PORT", raising=False)


def plain(value: object) -> str:
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, bool):
        value = int(value)
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def test_the_example_names_every_setting_with_its_default() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    shown = dict(line[1:].split("=", 1) for line in lines if line.startswith("#STILLREEL_"))
    assert shown == {
        f"STILLREEL_{name.upper()}": plain(field.default)
        for name, field in Settings.model_fields.items()
    }


def test_port_and_host_alone_count_before_the_env_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("STILLREEL_PORT=1111\nSTILLREEL_HOST=127.0.0.2\n")
    assert (read_settings().port, read_settings().host) == (1111, "127.0.0.2")
    monkeypatch.setenv("PORT", "7861")
    monkeypatch.setenv("HOST", "0.0.0.0")  # noqa: S104  read, not bound
    assert (read_settings().port, read_settings().host) == (7861, "0.0.0.0")  # noqa: S104


def test_a_machines_name_in_host_is_not_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST", "workstation")
    assert read_settings().host == "127.0.0.1"


def test_a_setting_that_cannot_be_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "seventy")
    with pytest.raises(CannotStart, match=r"^STILLREEL_PORT: it should be a whole number$"):
        read_settings()


def test_a_misspelled_setting_is_seen_in_the_env_file_too(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("STILLREEL_ENGINE=camera\nCOMPOSE_PROFILES=gpu\n")
    monkeypatch.setenv("STILLREEL_PROT", "7861")
    assert [line.partition(" ")[0] for line in strange_settings()] == [
        "STILLREEL_ENGINE",
        "STILLREEL_PROT",
    ]


def test_a_name_in_the_env_file_that_lacks_only_the_prefix_is_pointed_out() -> None:
    Path(".env").write_text("ENGINES=camera\nPORT=7861\nHF_TOKEN=hf_x\n")
    assert strange_settings() == [
        "ENGINES in .env is no setting; did you mean STILLREEL_ENGINES?",
        "PORT in .env is no setting; did you mean STILLREEL_PORT?",
    ]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le"])
def test_an_env_file_of_windows_is_refused_with_how_to_save_it(encoding: str) -> None:
    """UTF-16 without its mark was read as unknown names, so every setting was lost."""
    Path(".env").write_bytes("STILLREEL_PORT=7001\n".encode(encoding))
    with pytest.raises(CannotStart, match=r"^\.env .*; save it as UTF-8$"):
        read_settings()
