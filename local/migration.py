"""`make migration NAME="…"`: write the next migration's file, with its number."""

import re
import subprocess
import sys
from pathlib import Path

VERSIONS = Path(__file__).resolve().parents[1] / "migrations" / "versions"


def main(name: str) -> int:
    words = re.findall(r"[\w',-]+", name)
    if not words:
        print(
            'stillreel: say what the migration is for: make migration NAME="a key\'s quota"',
            file=sys.stderr,
        )
        return 2
    newest = max((path.name[:4] for path in VERSIONS.glob("[0-9]*.py")), default="0000")
    number = f"{int(newest) + 1:04d}"
    sentence = " ".join(words)
    return subprocess.call(
        [
            *(sys.executable, "-m", "alembic", "revision"),
            "--rev-id",
            number,
            "-m",
            f"{sentence[0].upper()}{sentence[1:]}.",
        ],
        cwd=VERSIONS.parents[1],
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
