"""The keeper's bells are seen to matter: without them a job waits for ever."""

from pathlib import Path

import pytest
from redis import Redis

from shared.bell import queue_name
from tests.chaos.trial import HOPELESS_SECONDS, trial
from tests.support.processes import PATIENCE_SECONDS, until
from tests.support.stack import Stack

pytestmark = pytest.mark.long


@pytest.mark.parametrize("sabotage", [None, "bells"])
def test_the_keeper_rings_again_for_a_job_whose_bell_was_lost(
    stack: Stack, tmp_path: Path, sabotage: str | None
) -> None:
    with trial(stack, tmp_path, sabotage, "gateway", "keeper") as on:
        on.accept("steps=1")
        with Redis.from_url(on.desk.settings.redis_url.get_secret_value()) as valkey:
            until(
                lambda: valkey.llen(queue_name("scripted")) or on.people.is_muted(),
                "the gateway has rung, or given up",
            )
            valkey.flushall()
        on.people.begin("worker")
        assert on.ends(within=PATIENCE_SECONDS if sabotage is None else HOPELESS_SECONDS) is (
            sabotage is None
        )
        assert on.audit().broken == ({} if sabotage is None else {"lost": 1})
