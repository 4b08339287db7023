"""What is written to the log if its disk is full or its locale is unusual."""

import io
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from local.console import Console
from shared.logs import LineHandler

WRITES = """
import structlog
from shared import logs
from shared.settings import Settings
logs.set_up(Settings(_env_file=None), process="gateway")
structlog.get_logger().warning("refused", reason="Größe 图 \\udcff")
"""


class Disk(io.StringIO):
    """A stream on a disk that can be full."""

    is_full = False

    def flush(self) -> None:
        if self.is_full:
            raise OSError(28, "No space left on device")


def test_lines_that_a_full_disk_refuses_are_counted_and_write_no_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    disk = Disk()
    handler = LineHandler(disk)
    handler.setFormatter(logging.Formatter("%(message)s, %(refused)d before it not written"))
    for line, is_full in (("a", False), ("b", True), ("c", True), ("d", False), ("e", False)):
        disk.is_full = is_full
        handler.handle(logging.makeLogRecord({"msg": line}))
    assert "d, 2 before it not written\ne, 0 before it not written\n" in disk.getvalue()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "encoding",
    [
        "gbk",
        # These write the same line, and each takes most of a second of a core.
        *(pytest.param(each, marks=pytest.mark.extended) for each in ("ascii", "iso-8859-9")),
    ],
)
def test_a_log_is_json_in_utf8_whatever_the_locale_is(encoding: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WRITES],
        capture_output=True,
        env={"PYTHONIOENCODING": encoding, "PYTHONPATH": str(Path(__file__).parents[2])},
        check=True,
    )
    assert done.stderr == b""
    assert json.loads(done.stdout)["reason"].startswith("Größe 图 ")


def test_the_launcher_says_what_a_terminal_cannot_show_in_escapes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    Console().say("the data folder /srv/图 is full")
    terminal.flush()
    assert terminal.buffer.getvalue() == b"the data folder /srv/\\u56fe is full\n"
