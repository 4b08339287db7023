"""`make key`: an API key for the service of `make run`: `python -m local.key create NAME`.

The other commands for keys (list, rotate, revoke) work in the same way.
"""

import os
import subprocess
import sys
from collections.abc import Sequence

from local.app_processes import ROOT
from local.cli_settings import read_settings
from local.processes.process import CannotStart
from local.servers.services import service_env
from local.state import FILE, State


def main(arguments: Sequence[str]) -> int:
    """Pass the command on to the gateway's own, with the address of this folder's database."""
    try:
        folder = read_settings().data_dir.absolute()
        if not (folder / FILE).exists():
            raise CannotStart(f"nothing has run in {folder} yet; start it first: make run")
        state = State.load(folder)
    except CannotStart as error:
        print(f"stillreel: {error.message}", file=sys.stderr)
        return 1
    argv = [sys.executable, "-m", "api", "keys", *arguments]
    return subprocess.run(argv, cwd=ROOT, env={**os.environ, **service_env(state)}).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
