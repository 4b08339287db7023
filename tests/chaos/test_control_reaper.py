"""The reaper matters: without it, the job of a lost worker is lost."""

from pathlib import Path

import pytest

from tests.chaos.trial import HOPELESS_SECONDS, trial
from tests.support.processes import PATIENCE_SECONDS
from tests.support.stack import Stack

pytestmark = pytest.mark.extended


@pytest.mark.parametrize("sabotage", [None, "reaper"])
def test_the_reaper_saves_the_job_of_a_worker_that_vanished(
    stack: Stack, tmp_path: Path, sabotage: str | None
) -> None:
    with trial(stack, tmp_path, sabotage, "gateway", "keeper") as on:
        on.accept("steps=1")
        assert on.desk.jobs.claim(["scripted"], worker="vanished#1") is not None
        on.people.begin("worker")
        assert on.ends(within=PATIENCE_SECONDS if sabotage is None else HOPELESS_SECONDS) is (
            sabotage is None
        )
        assert on.audit().broken == ({} if sabotage is None else {"lost": 1})
