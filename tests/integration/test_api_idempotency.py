"""One Idempotency-Key is one job, however often, however at once and to whomever it is sent."""

from concurrent.futures import ThreadPoolExecutor

import requests

from tests.gateway import Gateway, Hand, data_uri, photo_png, running_gateway
from tests.stack import Stack


def keyed(gateway: Gateway, key: str, **fields: object) -> requests.Response:
    return gateway.create(headers={"Idempotency-Key": key}, **fields)


def test_a_repeated_request_gets_the_job_it_made(gateway: Gateway, hand: Hand) -> None:
    first = keyed(gateway, "one", seed="1")
    again = keyed(gateway, '"one"', seed="1")
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["Location"] == first.headers["Location"]
    assert again.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    hand.complete(hand.claim())
    assert keyed(gateway, "one", seed="1").json()["status"] == "succeeded"
    assert len(gateway.get("/v1/jobs").json()["data"]) == 1


def test_the_same_request_in_json_is_the_same_request(gateway: Gateway) -> None:
    first = keyed(gateway, "two", prompt="x", num_frames="16")
    body = {"image": data_uri(photo_png()), "prompt": "x", "num_frames": 16}
    again = gateway.post("/v1/jobs", json=body, headers={"Idempotency-Key": "two"})
    assert again.json()["id"] == first.json()["id"]


def test_another_request_with_the_same_key_is_refused(gateway: Gateway) -> None:
    keyed(gateway, "three", prompt="x")
    for refused in (
        keyed(gateway, "three", prompt="y"),
        keyed(gateway, "three", prompt="x", image=photo_png(size=(64, 64))),
    ):
        assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_conflict")
        assert refused.json()["param"] == "Idempotency-Key"


def test_a_deleted_job_frees_its_key(gateway: Gateway) -> None:
    first = keyed(gateway, "four").json()["id"]
    gateway.http.delete(f"{gateway.url}/v1/jobs/{first}", timeout=10)
    assert keyed(gateway, "four").json()["id"] != first


def test_twenty_parallel_sends_to_two_gateways_make_one_job_and_one_picture(
    gateway: Gateway, hand: Hand, module_stack: Stack
) -> None:
    with running_gateway(module_stack.settings()) as other, ThreadPoolExecutor(20) as senders:
        url = [gateway.url, other.url]

        def send(number: int) -> requests.Response:
            return requests.post(
                f"{url[number % 2]}/v1/jobs",
                files={"image": photo_png()},
                headers={"Idempotency-Key": "all at once".replace(" ", "-")},
                timeout=30,
            )

        answers = list(senders.map(send, range(20)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    replays = [answer.headers.get("Idempotency-Replayed") for answer in answers]
    assert replays.count("true") == 19
    assert len(gateway.get("/v1/jobs").json()["data"]) == 1
    assert hand.storage.delete_prefix("inputs/") == 1
