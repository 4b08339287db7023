"""Planted secrets turn up nowhere: not in logs, answers, arguments, metrics or tables."""

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Final

import pytest

from tests.stack import ROOT

PLANTED: Final = "planted-7c1f09e2"
PROCESSES: Final = (
    ["api"],
    ["worker"],
    ["worker.keeper"],
    ["alembic", "upgrade", "head"],
)


def refusal(argv: list[str], settings: Mapping[str, str]) -> str:
    """Return what a process says instead of starting."""
    done = subprocess.run(
        [sys.executable, "-m", *argv],
        cwd=ROOT,
        env={**os.environ, **{f"STILLREEL_{name}": value for name, value in settings.items()}},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode not in {0, None}
    return done.stdout + done.stderr


@pytest.mark.parametrize("argv", PROCESSES, ids=lambda argv: argv[0])
@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"PORT": f"{PLANTED}"}, "STILLREEL_PORT"),
        ({"PUBLIC_URL": "https://video.example.org/"}, "PUBLIC_URL"),
    ],
    ids=["field", "whole"],
)
def test_a_wrong_setting_is_named_and_no_value_is_shown(
    argv: list[str], wrong: dict[str, str], named: str
) -> None:
    secrets = {
        "DATABASE_URL": f"postgresql+psycopg://user:{PLANTED}@127.0.0.1:1/none",
        "S3_SECRET_KEY": PLANTED,
    }
    said = refusal(argv, secrets | wrong)
    assert said.startswith("the settings are wrong: STILLREEL")
    assert said.count("\n") == 1
    assert named in said
    assert PLANTED not in said
