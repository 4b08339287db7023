"""The launcher on real servers, with stand-ins for our own processes.

Run as `python -m tests.support.launch`.

The stand-in worker writes "drained" into the data folder when it is asked to stop.
"""

import signal
import sys
from pathlib import Path

from local.app_processes import answers, gateway_address
from local.cli_settings import read_settings
from local.console import say
from local.launcher import launch
from local.processes.process import CannotStart, Part
from local.state import State
from shared.settings import Settings

GATEWAY = """
import http.server, sys
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler
).serve_forever()
"""
WORKER = """
import pathlib, signal, sys
def drain(*_):
    pathlib.Path(sys.argv[1], "drained").touch()
    sys.exit()
signal.signal(signal.SIGTERM, drain)
signal.pause()
"""


def stand_ins(folder: Path, state: State, settings: Settings) -> tuple[Part, ...]:
    address = gateway_address(settings)

    def part(name: str, script: str, argument: str) -> Part:
        return Part(
            name=name,
            argv=(sys.executable, "-c", script, argument),
            log=folder / "logs" / f"{name}.log",
            cwd=folder / "logs",
            needs=("postgres", "valkey", "s3"),
            death_signal=signal.SIGTERM,
            ready=(lambda: answers(address)) if name == "gateway" else None,
            address=address,
        )

    return (
        part("worker", WORKER, str(folder)),
        part("gateway", GATEWAY, str(settings.port)),
    )


if __name__ == "__main__":
    try:
        launch(read_settings(), stand_ins)
    except CannotStart as error:
        say(error.message)
        sys.exit(1)
