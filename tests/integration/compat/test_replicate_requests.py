"""Requests to `/compat/replicate` as tools and scripts write them, without Replicate's client."""

from typing import Final

import pytest

from tests.support.gateway import FakeWorker, Gateway, beside, data_uri, photo_png

PREDICTIONS: Final = "/compat/replicate/v1/predictions"
MODEL: Final = "stillreel/moves"
INPUT: Final = {"image": data_uri(photo_png()), "prompt": "push in"}


@pytest.mark.parametrize("query", ["cursor=x", "cursor=job_0", "cursor=job_" + "0" * 32])
def test_a_cursor_that_is_none_is_told_what_is(keyed_gateway: Gateway, query: str) -> None:
    answer = keyed_gateway.get(f"{PREDICTIONS}?{query}")
    assert (answer.status_code, answer.json()["param"]) == (422, "cursor")
    assert "use next of a page as it is" in answer.json()["detail"]
    unknown = keyed_gateway.get(f"{PREDICTIONS}?created_after=2026-01-01")
    assert (unknown.status_code, unknown.json()["param"]) == (422, "created_after")
    assert keyed_gateway.get(f"{PREDICTIONS}?cursor=").status_code == 200


@pytest.mark.parametrize("wait", ["wait=99999999999999", "wait=30.5", 'wait="30"'])
def test_a_wait_of_any_length_waits_for_the_end(
    keyed_gateway: Gateway, fake_worker: FakeWorker, wait: str
) -> None:
    body = {"version": MODEL, "input": INPUT}
    waiting = beside(lambda: keyed_gateway.post(PREDICTIONS, json=body, headers={"Prefer": wait}))
    fake_worker.complete(fake_worker.claim())
    assert waiting.result(timeout=60).json()["status"] == "succeeded"


def test_a_prediction_that_is_sent_again_is_the_same_and_says_so(keyed_gateway: Gateway) -> None:
    body, headers = {"version": MODEL, "input": INPUT}, {"Idempotency-Key": "one"}
    first, second = (keyed_gateway.post(PREDICTIONS, json=body, headers=headers) for _ in range(2))
    assert first.json()["id"] == second.json()["id"]
    assert [each.headers.get("Idempotency-Replayed") for each in (first, second)] == [None, "true"]
