"""Fixtures and rules for every test."""

import os

import pytest
import structlog

from tests.stack import module_stack, servers, stack

__all__ = ["module_stack", "servers", "stack"]


def pytest_configure() -> None:
    """Keep the settings of whoever runs the tests out of them, and threads off pytest's stdout.

    A gateway in a thread that prints while pytest reads what it captured crashes Python 3.11:
    nothing guards a TextIOWrapper. The handlers of `logging` have locks.
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


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Let a skipped test fail the run where CI is set: there everything is installed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter.write_sep("!", "a test was skipped, which fails the run where CI is set")
