"""The compose file as Docker Compose understands it; no container is started."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PROFILES = ("gpu", "monitoring", "remote")

Service = Mapping[str, Any]


def compose(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `docker-compose` in a folder, with nothing of the caller's environment."""
    return subprocess.run(
        [str(Path(sys.executable).with_name("docker-compose")), *arguments],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def resolved(folder: Path, profiles: Sequence[str] = PROFILES, **env: str) -> dict[str, Service]:
    flags = [part for profile in profiles for part in ("--profile", profile)]
    done = compose(folder, *flags, "config", "--format", "json", **env)
    assert done.returncode == 0, done.stderr
    services: dict[str, Service] = json.loads(done.stdout)["services"]
    return services
