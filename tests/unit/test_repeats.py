"""Repeated log lines are shown a few times and counted; all other lines pass."""

import logging
from datetime import timedelta
from io import StringIO

import pytest
import structlog

from shared.logs import set_up
from shared.repeats import REMEMBERED, RepeatFilter
from shared.settings import Settings

AN_HOUR = timedelta(hours=1)


def line(message: object, *, level: int = logging.WARNING) -> logging.LogRecord:
    return logging.LogRecord("keeper", level, __file__, 1, message, (), None)


def passed(repeats: RepeatFilter, *lines: logging.LogRecord) -> list[object]:
    return [each.msg for each in lines if repeats.filter(each)]


def test_the_same_warning_passes_a_few_times_in_each_window() -> None:
    repeats = RepeatFilter(window=AN_HOUR, shown=3)
    told = [{"event": "keeper_round_skipped", "loop": "reap", "timestamp": n} for n in range(100)]
    assert passed(repeats, *(line(each) for each in told)) == told[:3]


def test_lines_that_differ_in_a_field_are_different_lines() -> None:
    repeats = RepeatFilter(window=AN_HOUR, shown=1)
    told = [{"event": "lease_ran_out", "job": f"job_{n}", "timestamp": n} for n in range(50)]
    assert passed(repeats, *(line(each) for each in told)) == told


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
def test_what_is_no_warning_always_passes(level: int) -> None:
    repeats = RepeatFilter(window=AN_HOUR, shown=1)
    assert len(passed(repeats, *(line("swept", level=level) for _ in range(50)))) == 50


def test_a_librarys_line_is_held_to_it_too() -> None:
    repeats = RepeatFilter(window=AN_HOUR, shown=2)
    assert (
        passed(repeats, *(line("connection lost") for _ in range(50))) == ["connection lost"] * 2
    )


def test_the_next_window_tells_how_many_were_hidden() -> None:
    repeats = RepeatFilter(window=timedelta(0), shown=3)
    hiding = RepeatFilter(window=AN_HOUR, shown=3)
    for _ in range(10):
        hiding.filter(line("gone"))
    hiding._window = 0.0  # The hour is over.
    last = line("gone")
    assert hiding.filter(last)
    assert last.__dict__["repeated"] == 7
    assert repeats.filter(line("gone"))


def test_however_many_lines_differ_few_are_remembered() -> None:
    repeats = RepeatFilter(window=AN_HOUR, shown=1)
    for number in range(3 * REMEMBERED):
        assert repeats.filter(line(f"request {number} failed"))
    assert len(repeats._lines) == REMEMBERED


def test_a_process_logs_the_count_beside_the_line() -> None:
    root = logging.getLogger()
    before, level, configured = root.handlers[:], root.level, structlog.get_config()
    try:
        set_up(Settings(_env_file=None), process="keeper")
        (handler,) = root.handlers
        assert isinstance(handler, logging.StreamHandler)
        handler.setStream(StringIO())
        (repeats,) = handler.filters
        assert isinstance(repeats, RepeatFilter)
        for _ in range(10):
            logging.getLogger("x").warning("gone")
        repeats._window = 0.0
        logging.getLogger("x").warning("gone")
        lines = handler.stream.getvalue().splitlines()
    finally:
        root.handlers[:], root.level = before, level
        structlog.configure(**configured)
    assert len(lines) == 4
    assert '"repeated": 7' in lines[-1]
    assert "repeated" not in lines[0]
