"""Installed versions are the pinned ones, and no pin is older than the fix of a known fault."""

import os
import re
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from local.install import Environment
from local.lock import LOCKS, OF_TORCH, pin_images
from tests.support.stack import ROOT

PIN = re.compile(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.!+]+)")
PARTS = sorted((ROOT / "requirements").glob("*.txt"))
SEEDS = {"pip", "setuptools", "wheel"}
"""Packages that come with an environment; none of our code imports them."""

OUR_CLIENT = "stillreel"
"""`pip install ./client` leaves its metadata in that folder, which the tests import from."""

FLOORS = {
    "celery": "5.7.0",  # Broker passwords in logs; lost messages after a reconnect.
    "diffusers": "0.38.0",  # CVE-2026-44513: it ran remote code although it was told not to.
    "pillow": "12.3.0",  # CVE-2026-40192, -55379, -55380, -55798.
    "pillow-heif": "1.8.1",  # The first version with libde265 1.1.3 and libheif 1.23.6.
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
        if name not in {*SEEDS, OUR_CLIENT} and str(pins().get(name)) != version.public
    }
    assert wrong == {}


@pytest.mark.parametrize("part", PARTS, ids=lambda part: str(part.name))
def test_whatever_is_asked_for_is_pinned(part: Path) -> None:
    lines = [line.partition("#")[0].strip() for line in part.read_text().splitlines()]
    wanted = [Requirement(line) for line in lines if line and not line.startswith("-r ")]
    assert wanted
    assert [str(each) for each in wanted if canonicalize_name(each.name) not in pins()] == []
    # Only constraints.txt says which version.
    assert [str(each) for each in wanted if each.specifier or each.url] == []


@pytest.mark.parametrize("name", FLOORS)
def test_no_pin_is_below_the_fix_of_a_known_fault(name: str) -> None:
    assert pins()[canonicalize_name(name)] >= Version(FLOORS[name])


def test_make_run_follows_the_pins() -> None:
    assert "constraints.txt" in " ".join(Environment(ROOT).pip_argv("anything"))


def test_the_images_install_by_hash_and_nothing_else() -> None:
    commands = re.findall(r"pip install (.*)", (ROOT / "Dockerfile").read_text())
    assert commands.pop(2) == "--constraint constraints.txt torch"  # This is the one exception.
    assert len(commands) == 3
    for command in commands:
        assert re.match(
            r"--no-deps --require-hashes --requirement requirements/[\w-]+\.lock", command
        )


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_is_what_its_image_needs_at_the_pinned_versions(name: str) -> None:
    locked, known = lock(name), pins()
    *_, wanted = LOCKS[name]
    asked = {each for each in required(Path(wanted).name) if not OF_TORCH.match(each)}
    assert asked <= locked.keys(), "run `make lock`"
    ours = {each: version for each, version in locked.items() if each not in SEEDS}
    assert ours.items() <= known.items(), "run `make lock`"


@pytest.mark.parametrize("name", LOCKS)
def test_every_line_of_a_lock_is_a_pin_with_its_hashes(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.lock").read_text()
    entries = re.sub(r" \\\n +", " ", text).splitlines()[1:]
    entry = re.compile(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!]+( --hash=sha256:[0-9a-f]{64})+")
    assert [line for line in entries if not entry.fullmatch(line)] == []
    assert "//" not in text


@pytest.mark.parametrize(
    ("smaller", "larger"),
    [("gateway", "worker-cpu"), ("worker-cpu", "worker")],
)
def test_what_an_image_stands_on_is_not_installed_twice(smaller: str, larger: str) -> None:
    assert lock(smaller).items() <= lock(larger).items()


def test_every_image_of_others_has_a_tag_or_a_digest() -> None:
    """A digest is there if it is known; `make lock` writes the digests."""
    named = re.findall(r"^FROM (\S+:\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    compose = (ROOT / "docker-compose.yml").read_text()
    named += re.findall(r"^ +image: (\S+:\S+)", compose, re.MULTILINE)
    assert len(named) == 6
    good = re.compile(r"[\w./-]+:[\w.-]*\d[\w.-]*(@sha256:[0-9a-f]{64})?")
    assert [each for each in named if not good.fullmatch(each)] == []


def test_digests_are_written_behind_tags_and_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker = tmp_path / "docker"
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for file in ("Dockerfile", "docker-compose.yml"):
        before = (ROOT / file).read_text()
        copied = tmp_path / file
        copied.write_text(before)
        for letter in "ab":
            digest = f"sha256:{letter * 64}"
            docker.write_text(f"#!/bin/sh\necho '\"{digest}\"'\n")
            docker.chmod(0o755)
            pin_images(copied)
            after = copied.read_text()
            assert after.replace(f"@{digest}", "") == re.sub("@sha256:[0-9a-f]{64}", "", before)
            assert after.count(digest) == (1 if file == "Dockerfile" else 5)
        assert "stillreel-gateway@" not in after


def lock(name: str) -> dict[str, Version]:
    """Return the version of every library in a lock."""
    text = (ROOT / "requirements" / f"{name}.lock").read_text()
    found = re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", text, re.MULTILINE)
    return {str(canonicalize_name(library)): Version(version) for library, version in found}


def required(file: str) -> set[str]:
    """Return the libraries that a requirements file and the files that it includes ask for."""
    names: set[str] = set()
    for line in (ROOT / "requirements" / file).read_text().splitlines():
        stated = line.partition("#")[0].strip()
        if stated.startswith("-r "):
            names |= required(stated[3:].strip())
        elif stated:
            names.add(canonicalize_name(Requirement(stated).name))
    return names
