"""A worker's own looks matter: without them, a job whose bell was lost waits for ever."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from tests.chaos.trial import HOPELESS_SECONDS, trial
from tests.support.processes import PATIENCE_SECONDS
from tests.support.stack import Stack

pytestmark = [pytest.mark.extended, pytest.mark.long]


@pytest.mark.parametrize("sabotage", [None, "looks"])
def test_an_idle_worker_finds_a_job_whose_bell_was_lost(
    stack: Stack, tmp_path: Path, sabotage: str | None
) -> None:
    with trial(stack, tmp_path, sabotage, "gateway", "keeper", "worker") as on:
        on.accept("steps=1", "rung-for")
        assert on.ends(within=PATIENCE_SECONDS)
        with bells_are_lost(on.desk.settings.redis_url.get_secret_value()):
            on.accept("steps=1", "found")
            found = on.ends(within=PATIENCE_SECONDS if sabotage is None else HOPELESS_SECONDS)
        assert found is (sabotage is None)
        assert on.audit().broken == ({} if sabotage is None else {"lost": 1})


@contextlib.contextmanager
def bells_are_lost(url: str) -> Iterator[None]:
    """Make Valkey refuse to add bells and to remove them."""
    with Redis.from_url(url) as valkey:
        valkey.config_set("min-replicas-to-write", 1)
        try:
            yield
        finally:
            valkey.config_set("min-replicas-to-write", 0)
