"""What `make run` and `make test` install, and when they see that it is installed."""

import json
import sys
from pathlib import Path

import pytest

from local import install
from local.install import Environment


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """An environment that uses the Python of this test."""
    made = Environment(tmp_path)
    made.python.parent.mkdir(parents=True)
    made.python.symlink_to(sys.executable)
    return made


@pytest.mark.parametrize(
    ("engines", "needs_torch"),
    [
        ("", False),
        ("auto", False),
        ("camera", False),
        ("noop=bench.noop:NoopEngine, camera", False),
        ("i2vgen-xl", True),
        ("camera,i2vgen-xl", True),
        ("camera, ltx = diffusers:/models/ltx", True),
        ("fast=openai-videos:http://10.0.0.7:8000/v1?model=wan", False),
    ],
)
def test_torch_is_installed_only_where_a_model_is_named_that_runs_here(
    engines: str, needs_torch: bool
) -> None:
    assert install.names_a_model(engines) is needs_torch


def test_the_engines_come_from_the_environment_before_the_env_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert install.engines_setting(tmp_path) == ""
    (tmp_path / ".env").write_text("OTHER=1\nSTILLREEL_ENGINES='i2vgen-xl'\n")
    assert install.engines_setting(tmp_path) == "i2vgen-xl"
    monkeypatch.setenv("STILLREEL_ENGINES", "camera")
    assert install.engines_setting(tmp_path) == "camera"


@pytest.mark.parametrize(
    ("has", "wanted", "is_there"),
    [
        ("dev", "worker", True),
        ("models", "models", True),
        ("worker", "models", False),
        ("models", "dev", False),
    ],
)
def test_a_larger_set_serves_for_a_smaller_one(
    environment: Environment, has: str, wanted: str, is_there: bool
) -> None:
    environment.stamp.write_text(json.dumps({"set": has, "pins": "these"}))
    assert environment.is_installed(wanted, "these") is is_there


def test_other_pins_or_no_stamp_mean_another_install(environment: Environment) -> None:
    assert not environment.is_installed("worker", "these")
    environment.stamp.write_text(json.dumps({"set": "worker", "pins": "those"}))
    assert not environment.is_installed("worker", "these")
    environment.stamp.write_text("half a st")
    assert not environment.is_installed("worker", "these")


def test_a_changed_pin_changes_the_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "requirements").mkdir()
    (tmp_path / "constraints.txt").write_text("numpy==1\n")
    before = Environment(tmp_path).pins()
    (tmp_path / "constraints.txt").write_text("numpy==2\n")
    assert Environment(tmp_path).pins() != before


def test_an_old_python_is_told_what_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 8))
    monkeypatch.setenv("PATH", "")

    assert install.main("run", tmp_path) == 1

    assert "Python 3.11 or newer is needed, and" in capsys.readouterr().err
