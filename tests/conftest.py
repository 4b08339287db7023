"""Fixtures and rules for every test."""

import gc
import os
import time
from collections.abc import Generator
from typing import Final

import pytest
import structlog

from tests.support.stack import module_stack, servers, stack

__all__ = ["module_stack", "servers", "stack"]

BUDGET_VARIABLE: Final = "FLOOR_SECONDS"
SLOWEST: Final = 10

_began: Final = time.monotonic()


def pytest_configure() -> None:
    """Keep the user's settings out of the tests, and keep threads off pytest's stdout.

    If a gateway in a thread prints while pytest reads the captured text, Python 3.11 crashes,
    because nothing guards a TextIOWrapper. The handlers of `logging` have locks.
    """
    for name in [name for name in os.environ if name.startswith("STILLREEL_")]:
        del os.environ[name]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def pytest_xdist_auto_num_workers() -> int:
    """Run one process more than there are cores, because many tests wait; each has own servers."""
    return min(4, (os.cpu_count() or 2) + 1)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Hide the objects that collecting imports from the garbage collector.

    They are a million objects that stay. Looking through them during the imports took 4 of 19 CPU
    seconds. After that, each look took half a second: one after every unloaded model, and five at
    the end. The tests themselves run with Python's own thresholds, as the product does.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(trylast=True)  # It runs after pytest-randomly has shuffled the files.
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest files first: one that started last would leave the other processes idle.

    The files of tests/e2e come first, because one browser serves all of them if they run in a row.
    """
    items.sort(
        key=lambda item: (
            item.get_closest_marker("long") is None,
            item.path.parent.name != "e2e",
        )
    )


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Let a skipped test fail the run if CI is set, because everything is installed there."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter.write_sep("!", "a test was skipped, which fails the run where CI is set")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """If a run took longer than its budget, name the tests that took the most of it."""
    budget = float(os.environ.get(BUDGET_VARIABLE, "inf"))
    took = time.monotonic() - _began
    if took <= budget:
        return
    reports = [report for same in terminalreporter.stats.values() for report in same]
    seconds: dict[str, float] = {}
    for report in reports:
        if isinstance(report, pytest.TestReport):
            seconds[report.nodeid] = seconds.get(report.nodeid, 0.0) + report.duration
    terminalreporter.section(f"{took:.0f} s, over its budget of {budget:.0f} s; the slowest are")
    for name in sorted(seconds, key=seconds.__getitem__, reverse=True)[:SLOWEST]:
        terminalreporter.write_line(f"{seconds[name]:7.1f} s  {name}")
