"""What is installed is what is pinned, and no pin is below the fix of a known fault."""

import re
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from local.install import pip_argv
from tests.support.stack import ROOT

PIN = re.compile(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.!+]+)")
PARTS = sorted((ROOT / "requirements").glob("*.txt"))
SEEDS = {"pip", "setuptools", "wheel"}
"""What comes with an environment and is imported by nothing of ours."""

FLOORS = {
    "celery": "5.7.0",  # Broker passwords in logs; lost messages after a reconnect.
    "diffusers": "0.38.0",  # CVE-2026-44513: ran remote code although told not to.
    "pillow": "12.3.0",  # CVE-2026-40192, -55379, -55380, -55798.
    "python-multipart": "0.0.31",  # CVE-2026-42561, GHSA-v9pg-7xvm-68hf and earlier ones.
    "starlette": "0.49.1",  # CVE-2025-62727, CVE-2025-54121.
    "transformers": "5.3.0",  # CVE-2026-4372: remote code, as in diffusers.
}


def pins() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    matches = [PIN.fullmatch(line) for line in lines]
    assert all(matches), [line for line, match in zip(lines, matches, strict=True) if not match]
    found = {str(canonicalize_name(m[1])): Version(m[2]) for m in matches if m}
    assert len(found) == len(lines), "a library is pinned twice"
    return found


def test_whatever_is_installed_is_pinned_to_that_version() -> None:
    installed = {
        canonicalize_name(found.metadata["Name"]): Version(found.version)
        for found in distributions()
    }
    # A wheel for one kind of machine adds a label, as in 2.13.0+cpu.
    wrong = {
        name: str(version)
        for name, version in installed.items()
        if name not in SEEDS and str(pins().get(name)) != version.public
    }
    assert wrong == {}


@pytest.mark.parametrize("part", PARTS, ids=lambda part: str(part.name))
def test_whatever_is_asked_for_is_pinned(part: Path) -> None:
    lines = [line.partition("#")[0].strip() for line in part.read_text().splitlines()]
    wanted = [Requirement(line) for line in lines if line and not line.startswith("-r ")]
    assert wanted
    assert [str(each) for each in wanted if canonicalize_name(each.name) not in pins()] == []
    # One place says which version.
    assert [str(each) for each in wanted if each.specifier or each.url] == []


@pytest.mark.parametrize("name", FLOORS)
def test_no_pin_is_below_the_fix_of_a_known_fault(name: str) -> None:
    assert pins()[canonicalize_name(name)] >= Version(FLOORS[name])


def test_every_installation_of_ours_follows_the_pins() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    commands = [*re.findall(r"pip install .*", dockerfile), " ".join(pip_argv("anything"))]
    assert len(commands) >= 2
    assert [each for each in commands if "constraints.txt" not in each] == []
