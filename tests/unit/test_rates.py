"""Rate limits: buckets on a clock that the test moves."""

import pytest
from pydantic import ValidationError

from api.auth.rate_limit import Buckets, Rate
from shared.errors import RateLimited
from shared.settings import Settings


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def buckets(text: str, clock: Clock, most: int = 100) -> Buckets:
    rate = Rate.parse(text)
    assert rate is not None
    return Buckets(rate, whose="one key", most=most, clock=clock)


def taken(found: Buckets, name: str, tries: int) -> int:
    """Return how many of the tries pass at this moment."""
    count = 0
    for _ in range(tries):
        try:
            found.take(name)
        except RateLimited:
            continue
        count += 1
    return count


@pytest.mark.parametrize(
    ("text", "amount", "seconds"),
    [("50/second", 50, 1), ("7/second", 7, 1), ("60/minute", 60, 60), ("90/hour", 90, 3600)],
)
def test_a_full_bucket_holds_the_amount_and_refills_in_its_unit(
    clock: Clock, text: str, amount: int, seconds: int
) -> None:
    found = buckets(text, clock)
    assert taken(found, "a", 10 * amount) == amount
    clock.seconds += seconds / 2
    assert taken(found, "a", 10 * amount) == amount // 2
    clock.seconds += 10 * seconds
    assert taken(found, "a", 10 * amount) == amount


def test_a_refusal_says_when_to_come_again_and_costs_nothing(clock: Clock) -> None:
    found = buckets("2/minute", clock)
    taken(found, "a", 2)
    for _ in range(50):
        with pytest.raises(RateLimited, match="one key is 2/minute") as refused:
            found.take("a")
        assert refused.value.retry_after_seconds == 30
    clock.seconds += 30
    found.take("a")


def test_a_wait_is_a_whole_second_at_least(clock: Clock) -> None:
    found = buckets("50/second", clock)
    taken(found, "a", 50)
    with pytest.raises(RateLimited) as refused:
        found.take("a")
    assert refused.value.retry_after_seconds == 1


def test_one_name_does_not_empty_anothers_bucket(clock: Clock) -> None:
    found = buckets("3/second", clock)
    assert taken(found, "a", 9) == 3
    assert taken(found, "b", 9) == 3


def test_memory_is_bounded_and_the_busy_one_stays_known(
    clock: Clock,
) -> None:
    found = buckets("5/hour", clock, most=100)
    for number in range(1_000):
        taken(found, "busy", 1)
        for other in range(9):
            found.take(f"{number}-{other}")
        assert len(found) <= 100
    assert taken(found, "busy", 1) == 0


@pytest.mark.parametrize("text", ["none", "1/second", "600/minute", "9000/hour"])
def test_the_setting_takes_rates(text: str) -> None:
    rate = Rate.parse(Settings(_env_file=None, rate_limit=text).rate_limit)
    assert (rate is None) == (text == "none")


@pytest.mark.parametrize("text", ["", "0/second", "50", "50/day", "-1/second", "5.5/second", "x"])
def test_the_setting_takes_nothing_else(text: str) -> None:
    with pytest.raises(ValidationError, match="50/second"):
        Settings(_env_file=None, rate_limit=text)
