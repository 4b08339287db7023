"""Fixtures and rules for every test."""

import os

import pytest

from tests.stack import module_stack, servers, stack

__all__ = ["module_stack", "servers", "stack"]


def pytest_configure() -> None:
    """Keep the settings of whoever runs the tests out of them."""
    for name in [name for name in os.environ if name.startswith("STILLREEL_")]:
        del os.environ[name]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Let a skipped test fail the run where CI is set: there everything is installed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter.write_sep("!", "a test was skipped, which fails the run where CI is set")
