"""The one list of webhook events has every name, and every end of a job has its event."""

from typing import get_args

import pytest

from shared.lifecycle import LIVE, TERMINAL, Status
from shared.webhooks.events import (
    EVENTS,
    TERMINAL_EVENTS,
    EndpointEvent,
    EventType,
    VideoEventType,
    events_of,
)


def test_every_name_that_an_endpoint_may_ask_for_is_in_the_list_and_no_other() -> None:
    assert tuple(EVENTS) == get_args(EndpointEvent)


@pytest.mark.parametrize("status", TERMINAL)
@pytest.mark.parametrize("names", [get_args(EventType), get_args(VideoEventType)])
def test_every_end_of_a_job_has_one_event_in_each_protocol(
    status: Status, names: tuple[str, ...]
) -> None:
    assert len([event for event in events_of(status) if event in names]) == 1


def test_a_start_is_told_and_a_job_in_the_queue_is_not() -> None:
    assert {status: events_of(status) for status in LIVE} == {
        Status.QUEUED: [],
        Status.RUNNING: ["job.started"],
    }


def test_the_ends_that_a_jobs_own_webhook_hears_of_are_those_of_its_terminal_states() -> None:
    assert {*TERMINAL_EVENTS} == {
        event for status in TERMINAL for event in events_of(status) if event in get_args(EventType)
    }


def test_an_event_can_be_no_status_of_a_job() -> None:
    assert EVENTS["batch.finished"] == frozenset()
