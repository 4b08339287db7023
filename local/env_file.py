"""`make env`: a `.env` for Docker Compose that fits this machine.

It runs under the system's Python with nothing installed, because users of containers have no
`.venv`.
"""

import os
import sys
from pathlib import Path

from local.install import ROOT, say, sees_gpu

NAME = "COMPOSE_PROFILES"


def main(root: Path = ROOT) -> int:
    path = root / ".env"
    profiles = "gpu" if sees_gpu() else ""
    if add_profiles(path, profiles):
        what = "the workers for its GPUs" if profiles else "the camera engine; no GPU was seen"
        say(f"wrote .env: `docker compose up` starts {what}")
    else:
        say(f".env sets {NAME} already; left as it is")
    return 0


def add_profiles(path: Path, profiles: str) -> bool:
    """Add the profiles to the file, which is made if missing; False if it names some already."""
    lines = path.read_text().splitlines() if path.exists() else []
    if any(line.partition("=")[0].strip() == NAME for line in lines):
        return False
    draft = path.with_name(".env.new")
    draft.unlink(missing_ok=True)
    # The file may later hold passwords; an existing file keeps its mode.
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write("\n".join([*lines, f"{NAME}={profiles}", ""]))
    draft.replace(path)
    return True


if __name__ == "__main__":
    sys.exit(main())
