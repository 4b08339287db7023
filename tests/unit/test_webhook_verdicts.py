"""What follows a try of a webhook: it is delivered, tried again later, or a dead letter."""

from datetime import UTC, datetime, timedelta

import pytest

from shared.settings import Settings
from worker.keeper.delivery_queue import Outcome, Try
from worker.keeper.webhook_sender import judge

DELAYS = Settings(_env_file=None).webhook_delays
DAY = timedelta(days=1)


def came(code: int | None, *, retry_after: float | None = None) -> Try:
    fine = code is not None and 200 <= code < 300
    return Try(
        at=datetime(2026, 1, 1, tzinfo=UTC),
        latency=timedelta(0),
        status_code=code,
        error=None if fine else f"answered {code}",
        retry_after=None if retry_after is None else timedelta(seconds=retry_after),
    )


@pytest.mark.parametrize("code", [200, 201, 202, 204, 299])
def test_only_a_2xx_is_delivered(code: int) -> None:
    assert judge(came(code), tries=1, delays=DELAYS).outcome is Outcome.DELIVERED


@pytest.mark.parametrize("code", [None, 100, 199, 301, 302, 304, 307, 400, 404, 429, 500, 503])
def test_everything_else_is_tried_again(code: int | None) -> None:
    assert judge(came(code), tries=1, delays=DELAYS).outcome is Outcome.RETRY


@pytest.mark.parametrize("tries", range(1, len(DELAYS)))
def test_each_wait_is_the_scheduled_one_within_a_fifth(tries: int) -> None:
    verdict = judge(came(500), tries=tries, delays=DELAYS)

    assert verdict.wait_at_least == DELAYS[tries] * 0.8
    assert verdict.wait_at_most == DELAYS[tries] * 1.2


def test_the_default_schedule_tries_ten_times_over_three_days() -> None:
    assert len(DELAYS) == 10
    assert DELAYS[0] == timedelta(0)
    assert sum(DELAYS, timedelta(0)) == timedelta(hours=75, minutes=35, seconds=5)


def test_after_the_last_try_it_is_a_dead_letter_that_says_why() -> None:
    verdict = judge(came(500), tries=len(DELAYS), delays=DELAYS)

    assert verdict.outcome is Outcome.DEAD
    assert verdict.dead_reason == "try 10 of 10 failed: answered 500"
    assert not verdict.is_gone


def test_410_is_dead_at_once() -> None:
    verdict = judge(came(410), tries=1, delays=DELAYS)

    assert (verdict.outcome, verdict.is_gone) == (Outcome.DEAD, True)


@pytest.mark.parametrize("code", [429, 503])
@pytest.mark.parametrize(
    ("tries", "asked", "least"),
    [
        (1, 60, timedelta(seconds=60)),  # It is later than the schedule: the receiver decides.
        (3, 60, timedelta(seconds=1800 * 0.8)),  # It is earlier: the schedule decides.
        (1, 10 * 86400, DAY),  # It is absurd: a day, or twice the scheduled wait.
        (9, 10 * 86400, 2 * DAY),
    ],
)
def test_retry_after_postpones_within_reason(
    code: int, tries: int, asked: float, least: timedelta
) -> None:
    verdict = judge(came(code, retry_after=asked), tries=tries, delays=DELAYS)

    assert verdict.wait_at_least == least
    assert verdict.wait_at_least < verdict.wait_at_most <= 1.5 * least


def test_retry_after_says_nothing_on_other_failures() -> None:
    verdict = judge(came(500, retry_after=3600), tries=1, delays=DELAYS)

    assert verdict.wait_at_most == DELAYS[1] * 1.2
