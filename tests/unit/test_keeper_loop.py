"""A keeper loop that fails waits longer each time, says so, and says when it is back."""

import contextlib
import logging
import threading
import time
from datetime import timedelta

import pytest
from pydantic import SecretStr

from shared.db import Database
from shared.errors import DatabaseUnavailable
from shared.settings import Settings
from shared.storage import Storage
from worker.keeper.__main__ import Loop, endings


class Failing:
    """A round that fails a number of times, and then stops its loop."""

    def __init__(self, times: int, error: Exception, stop: threading.Event) -> None:
        self.began: list[float] = []
        self._times = times
        self._error = error
        self._stop = stop

    def __call__(self) -> None:
        self.began.append(time.monotonic())
        if len(self.began) <= self._times:
            raise self._error
        self._stop.set()

    @property
    def pauses(self) -> list[float]:
        return [after - before for before, after in zip(self.began, self.began[1:], strict=False)]


@pytest.mark.parametrize("error", [DatabaseUnavailable("it only reads"), ValueError("a bug")])
def test_a_loop_that_fails_pauses_longer_each_time(error: Exception) -> None:
    stop = threading.Event()
    failing = Failing(5, error, stop)
    loop = Loop("deliver", failing, every=0, stop=stop, first_pause=0.05, most_pause=0.2)
    loop.thread.start()
    loop.thread.join(timeout=30)
    assert not loop.thread.is_alive()
    for pause, least in zip(failing.pauses, (0.05, 0.1, 0.2, 0.2, 0.2), strict=True):
        assert pause >= least


def test_a_loop_that_works_again_says_how_many_rounds_it_missed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    stop = threading.Event()
    failing = Failing(2, DatabaseUnavailable("gone"), stop)
    loop = Loop("reap", failing, every=0, stop=stop, first_pause=0.01)
    loop.thread.start()
    loop.thread.join(timeout=30)
    missed, again, resumed = caplog.messages
    assert "keeper_round_skipped" in missed
    assert "keeper_round_skipped" in again
    assert "rounds_resumed" in resumed
    assert "missed=2" in resumed


def test_no_loop_that_removes_waits_for_anothers_connection() -> None:
    settings = Settings(_env_file=None, secret=SecretStr("s" * 32))
    given: list[str] = []
    with contextlib.ExitStack() as opened:

        def database(name: str) -> Database:
            given.append(name)
            url = settings.database_url.get_secret_value()
            db = Database(url, deadline=timedelta(seconds=1), pool_size=1)
            return opened.enter_context(contextlib.closing(db))

        storage = opened.enter_context(contextlib.closing(Storage(settings)))
        loops = endings(settings, database, storage, threading.Event())
    assert sorted(given) == sorted(loop.name for loop in loops)
