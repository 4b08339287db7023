"""Writes which files the container images install, by hash: `make lock`, after a pin has changed.

It asks pip what it would install on each architecture of the images; pip reads descriptions and
downloads little else. pip's own setting chooses the index, and no lock names one, because a mirror
has the same files. If docker is available, base images are pinned too, by the current digest of
their tag.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
PYTHON: Final = "3.11"
"""The Python of the images, which may differ from this one."""

ARCHITECTURES: Final = ("x86_64", "aarch64")
PLATFORMS: Final = (
    *(f"manylinux_2_{minor}" for minor in range(41, 16, -1)),
    "manylinux2014",
    "linux",
)
"""Platforms that the images' C library (2.41) can load; pip takes each name literally."""

LOCKS: Final = {
    "gateway": ("-r", "requirements/gateway.txt"),
    "worker-cpu": ("-r", "requirements/worker.txt"),
    "worker": ("-r", "requirements/models.txt"),
}
OF_TORCH: Final = re.compile(r"torch$|nvidia-|triton$|cuda-")
"""Left out, because pip would fetch gigabytes to find their hashes. The image pins torch's
version."""

HEAD: Final = "# What an image installs, by hash. Made by `make lock` from constraints.txt.\n"
ASK_SECONDS: Final = 1800

_IMAGE: Final = re.compile(
    r"^(?P<what>FROM|\s+image:) (?P<name>(?!stillreel)[\w./-]+:[\w.-]+)(?:@sha256:[0-9a-f]{64})?",
    re.MULTILINE,
)

Pins = dict[tuple[str, str], set[str]]
"""The SHA-256 of each file that may be installed of a library, by name and version."""


def main() -> int:
    for name, wanted in LOCKS.items():
        pins: Pins = defaultdict(set)
        for architecture in ARCHITECTURES:
            for key, digest in _resolved(wanted, architecture):
                if not OF_TORCH.match(key[0]):
                    pins[key].add(digest)
        (ROOT / "requirements" / f"{name}.lock").write_text(HEAD + "".join(_lines(pins)))
        print(f"stillreel: requirements/{name}.lock names {len(pins)} libraries", flush=True)
    if shutil.which("docker"):
        for file in ("Dockerfile", "docker-compose.yml"):
            pin_images(ROOT / file)
    else:
        print("stillreel: no docker here, so the images' digests stay as they are")
    return 0


def pin_images(file: Path) -> None:
    """Write the current digest after every tag of a foreign image."""

    def pinned(match: re.Match[str]) -> str:
        return f"{match['what']} {match['name']}@{_digest(match['name'])}"

    file.write_text(_IMAGE.sub(pinned, file.read_text()))


def _digest(image: str) -> str:
    asked = ["docker", "buildx", "imagetools", "inspect", image]
    told = subprocess.run(
        [*asked, "--format", "{{json .Manifest.Digest}}"],
        capture_output=True,
        text=True,
        timeout=ASK_SECONDS,
        check=True,
    )
    digest = str(json.loads(told.stdout))
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise ValueError(f"docker gave no digest of {image}: {digest[:100]}")
    return digest


def _resolved(wanted: tuple[str, ...], architecture: str) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield name, version and hash of every file that pip would install."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        platforms = [f"--platform={each}_{architecture}" for each in PLATFORMS]
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "install", "--quiet", "--dry-run"),
                *("--disable-pip-version-check", "--ignore-installed", "--only-binary=:all:"),
                *("--report", str(report), "--target", str(Path(folder) / "nothing")),
                *(f"--python-version={PYTHON}", "--implementation=cp", *platforms),
                *("--constraint", "constraints.txt", *wanted),
            ],
            cwd=ROOT,
            timeout=ASK_SECONDS,
            check=True,
        )
        for found in json.loads(report.read_text())["install"]:
            key = found["metadata"]["name"], found["metadata"]["version"]
            yield key, found["download_info"]["archive_info"]["hashes"]["sha256"]


def _lines(pins: Pins) -> Iterator[str]:
    for (name, version), digests in sorted(pins.items(), key=lambda pin: pin[0][0].lower()):
        hashes = "".join(f" \\\n    --hash=sha256:{each}" for each in sorted(digests))
        yield f"{name}=={version}{hashes}\n"


if __name__ == "__main__":
    sys.exit(main())
