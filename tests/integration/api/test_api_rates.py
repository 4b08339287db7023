"""Limits on how often a key may ask, and how often a stranger may."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import requests

from shared.api_keys.store import Keys
from tests.support.gateway import FakeWorker, Gateway, beside, photo_png, running_gateway
from tests.support.stack import Stack


def statuses(gateway: Gateway, path: str, times: int, **options: Any) -> list[int]:
    return [gateway.get(path, **options).status_code for _ in range(times)]


def test_a_key_that_asks_too_often_is_told_when_to_come_again(
    module_stack: Stack, fake_worker: FakeWorker
) -> None:
    with running_gateway(module_stack.settings(rate_limit="5/hour")) as gateway:
        assert statuses(gateway, "/v1/jobs", 5) == [200] * 5
        refused = gateway.create()
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert "one key is 5/hour" in refused.json()["detail"]
    assert 700 < int(refused.headers["Retry-After"]) <= 720


def test_health_and_figures_are_never_limited(
    module_stack: Stack, fake_worker: FakeWorker
) -> None:
    with running_gateway(module_stack.settings(rate_limit="1/hour")) as gateway:
        assert statuses(gateway, "/v1/jobs", 2) == [200, 429]
        for path in ("/livez", "/readyz", "/metrics"):
            assert statuses(gateway, path, 20) == [200] * 20


def test_the_limit_can_be_switched_off(module_stack: Stack, fake_worker: FakeWorker) -> None:
    with running_gateway(module_stack.settings(rate_limit="none")) as gateway:
        assert statuses(gateway, "/v1/jobs?limit=1", 120) == [200] * 120


def test_a_request_that_waits_for_its_clip_counts_once(
    module_stack: Stack, fake_worker: FakeWorker
) -> None:
    """A script that posts a folder of images one after another sends such requests."""
    with running_gateway(module_stack.settings(rate_limit="4/hour")) as gateway:
        for _ in range(4):
            files = {"image": ("photo.png", photo_png())}
            waiting = beside(partial(gateway.post, "/generate", files=files))
            job = fake_worker.claim()
            for step in range(1, 6):
                fake_worker.beat(job, step)
            fake_worker.complete(job)
            assert waiting.result(timeout=60).status_code == 200
        assert gateway.get("/v1/jobs").status_code == 429


def test_a_stranger_with_bad_keys_is_cut_short_and_a_good_key_is_not(
    module_stack: Stack, fake_worker: FakeWorker
) -> None:
    settings = module_stack.settings(
        admin_key="the-admin-key-of-this-test", rate_limit="50/second"
    )
    with running_gateway(settings) as gateway:
        bad = {"Authorization": "Bearer sr_" + "x" * 12 + "_" + "y" * 43}

        def guess(_: int) -> requests.Response:
            return requests.get(f"{gateway.url}/v1/jobs", headers=bad, timeout=60)

        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(guess, range(160)))
        answered = [answer.status_code for answer in found]
        # Some answers may be 503, if the keys could not be read in time.
        assert {401, 429} <= set(answered)
        assert 200 not in answered
        limited = found[answered.index(429)]
        assert limited.json()["code"] == "rate_limited"
        assert int(limited.headers["Retry-After"]) >= 1
        assert statuses(gateway, "/v1/jobs", 20) == [200] * 20


def test_each_key_has_a_limit_and_a_queue_of_its_own(stack: Stack) -> None:
    settings = stack.settings(rate_limit="5/hour", max_queued_per_key=3)
    with FakeWorker.on(stack) as hand, running_gateway(settings) as gateway:
        keys = Keys(hand.db)
        found = {}
        for name, max_queued in (("usual", None), ("small", 1)):
            _, given = keys.create(name, max_queued=max_queued)
            headers = {"Authorization": f"Bearer {given}"}
            found[name] = [gateway.create(headers=headers) for _ in range(6)]
    statuses = {name: [answer.status_code for answer in each] for name, each in found.items()}
    assert statuses == {"usual": [202] * 3 + [429] * 3, "small": [202] + [429] * 5}
    refused = found["small"][1:]
    codes = [answer.json()["code"] for answer in refused]
    assert codes == ["queue_full"] * 4 + ["rate_limited"]
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)
