"""The states of a job, and which state may follow which."""

import pytest

from shared.errors import TransitionRefused
from shared.lifecycle import TERMINAL, TRANSITIONS, Event, Status, after


@pytest.mark.parametrize("status", sorted(TERMINAL))
@pytest.mark.parametrize("event", list(Event))
def test_nothing_leaves_a_terminal_state(status: Status, event: Event) -> None:
    with pytest.raises(TransitionRefused):
        after(status, event)


@pytest.mark.parametrize(
    ("status", "event", "target"),
    [
        (Status.QUEUED, Event.CLAIM, Status.RUNNING),
        (Status.RUNNING, Event.HAND_BACK, Status.QUEUED),
        (Status.RUNNING, Event.RETRY, Status.QUEUED),
        (Status.RUNNING, Event.LOSE, Status.QUEUED),
        (Status.RUNNING, Event.COMPLETE, Status.SUCCEEDED),
        (Status.RUNNING, Event.FAIL, Status.FAILED),
        (Status.QUEUED, Event.FAIL, Status.FAILED),
        (Status.RUNNING, Event.CANCEL, Status.CANCELED),
        (Status.QUEUED, Event.CANCEL, Status.CANCELED),
    ],
)
def test_an_event_leads_where_the_plan_says(status: Status, event: Event, target: Status) -> None:
    assert after(status, event) is target


def test_every_legal_pair_is_in_the_table_above_and_no_other() -> None:
    pairs = {(s, e) for e, transition in TRANSITIONS.items() for s in transition.sources}
    assert len(pairs) == 9
    assert set(TRANSITIONS) == set(Event)
