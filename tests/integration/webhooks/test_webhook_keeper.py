"""A keeper process that dies while it sends a webhook."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.crashpoints import EXIT
from tests.support import receiver as twin
from tests.support.outbox import LOOPBACK, Outbox
from tests.support.processes import Crew, crew, until
from tests.support.receiver import Receiver
from tests.support.stack import Stack

SETTINGS = {"outbound_allow": str(LOOPBACK[0])}


@pytest.fixture
def keepers(module_stack: Stack, tmp_path: Path) -> Iterator[Crew]:
    with crew(module_stack, tmp_path) as keepers:
        yield keepers


def assert_sent_again(outbox: Outbox, receiver: Receiver, keepers: Crew) -> None:
    assert outbox.row()["status"] == "pending"
    outbox.end_leases()
    keepers.start("worker.keeper", **SETTINGS)
    until(lambda: outbox.row()["status"] == "delivered", "it was sent again")
    first, again = receiver.requests
    assert first.headers["webhook-id"] == again.headers["webhook-id"]
    assert [attempt["status_code"] for attempt in outbox.attempts()] == [200]


def test_a_keeper_that_dies_after_the_answer_sends_again_under_the_same_id(
    outbox: Outbox, receiver: Receiver, keepers: Crew
) -> None:
    outbox.finish(webhook_url=receiver.url("/hook"))
    dying = keepers.start("worker.keeper", crashpoint="webhook_sent", **SETTINGS)
    assert dying.process.wait(60) == EXIT
    assert len(receiver.requests) == 1
    assert_sent_again(outbox, receiver, keepers)


# In `make test`, the test above kills a keeper after the answer, when more is lost.
@pytest.mark.extended
def test_a_keeper_that_is_killed_before_the_answer_sends_again_under_the_same_id(
    outbox: Outbox, receiver: Receiver, keepers: Crew
) -> None:
    receiver.script("/hook", twin.hang(), twin.status(200))
    outbox.finish(webhook_url=receiver.url("/hook"))
    dying = keepers.start("worker.keeper", **SETTINGS)
    receiver.wait_for(1, "/hook")
    dying.kill()
    assert_sent_again(outbox, receiver, keepers)
