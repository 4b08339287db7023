"""The `.env` that `make env` writes."""

import stat
from pathlib import Path

import pytest

from local import env_file
from shared.settings import Settings


@pytest.fixture
def dotenv(tmp_path: Path) -> Path:
    """The path of the file, in a folder of its own."""
    return tmp_path / ".env"


@pytest.mark.parametrize(("has_gpu", "profiles"), [(True, "gpu"), (False, "")])
def test_the_gpu_profile_is_chosen_where_a_gpu_is_seen(
    dotenv: Path, monkeypatch: pytest.MonkeyPatch, has_gpu: bool, profiles: str
) -> None:
    monkeypatch.setattr(env_file, "sees_gpu", lambda: has_gpu)
    assert env_file.main(dotenv.parent) == 0
    assert dotenv.read_text() == f"COMPOSE_PROFILES={profiles}\n"
    assert stat.S_IMODE(dotenv.stat().st_mode) == 0o600


def test_what_is_in_the_file_stays(dotenv: Path) -> None:
    dotenv.write_text("# mine\nSTILLREEL_RETAIN_SECONDS=99")
    dotenv.chmod(0o640)
    assert env_file.add_profiles(dotenv, "gpu")
    assert dotenv.read_text() == "# mine\nSTILLREEL_RETAIN_SECONDS=99\nCOMPOSE_PROFILES=gpu\n"
    assert stat.S_IMODE(dotenv.stat().st_mode) == 0o640
    assert Settings(_env_file=dotenv).retain_seconds == 99


@pytest.mark.parametrize("line", ["COMPOSE_PROFILES=monitoring", "COMPOSE_PROFILES = "])
def test_profiles_somebody_chose_are_not_overwritten(dotenv: Path, line: str) -> None:
    dotenv.write_text(line)
    assert not env_file.add_profiles(dotenv, "gpu")
    assert dotenv.read_text() == line
