"""docs/webhooks.md says what the code does."""

import re
from datetime import timedelta
from pathlib import Path
from typing import get_args

import pytest

from api.app import create_app
from shared.settings import Settings
from shared.webhooks.delivery_log import MAX_REPLAYED
from shared.webhooks.endpoints import MAX_ENDPOINTS
from shared.webhooks.events import EndpointEvent
from worker.keeper.delivery_queue import PATIENCE
from worker.keeper.webhook_sender import (
    DEADLINE,
    JITTER,
    MAX_ANSWER_BYTES,
    MAX_RETRY_AFTER,
    PER_LANE,
)

ROOT = Path(__file__).parents[2]
UNITS = {"s": "seconds", "min": "minutes", "h": "hours"}


@pytest.fixture(scope="module")
def page() -> str:
    return " ".join((ROOT / "docs" / "webhooks.md").read_text().split())


def test_the_schedule_of_the_page_is_that_of_the_settings(page: str) -> None:
    sentence = re.search(r"The ten tries come after (.*?), each wait", page)
    assert sentence is not None
    waits = re.findall(r"(\d+) (s|min|h)\b", sentence[1])
    shown = tuple(timedelta(**{UNITS[unit]: int(number)}) for number, unit in waits)
    assert shown == Settings(_env_file=None).webhook_delays
    assert len(shown) == 10
    assert sum(shown, timedelta()) > timedelta(days=3)


@pytest.mark.parametrize(
    ("words", "is_so"),
    [
        ("15 seconds are all there is", timedelta(seconds=15) == DEADLINE),
        ("the first 8 kB of an answer", MAX_ANSWER_BYTES == 8 * 1024),
        ("± 20 %", JITTER == 0.2),
        ("at most a day", timedelta(days=1) == MAX_RETRY_AFTER),
        ("failed every try for five days", timedelta(days=5) == PATIENCE),
        ("two tries under way at a time", PER_LANE == 2),
        ("at most 10,000", MAX_REPLAYED == 10_000),
        ("at most 50 endpoints", MAX_ENDPOINTS == 50),
    ],
)
def test_a_figure_of_the_page_is_that_of_the_code(page: str, words: str, is_so: bool) -> None:
    assert words in page
    assert is_so


def test_every_path_of_the_page_is_served_and_every_webhook_path_is_on_it(page: str) -> None:
    served = create_app(Settings(_env_file=None)).openapi()["paths"]
    paths = {re.sub(r"\{\w+\}", "{id}", path) for path in served}
    shown = set(re.findall(r"/v1/[\w/{}]+", page))
    assert shown <= paths
    assert {path for path in paths if path.startswith("/v1/webhook")} <= shown


def test_the_page_names_every_event(page: str) -> None:
    assert {event for event in get_args(EndpointEvent) if f"`{event}`" not in page} == set()
