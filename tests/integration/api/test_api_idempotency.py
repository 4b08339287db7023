"""One Idempotency-Key makes one job, however often and to however many gateways it is sent."""

import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from random import Random

import requests
from sqlalchemy import text

from tests.support.gateway import FakeWorker, Gateway, data_uri, photo_png, running_gateway
from tests.support.processes import until
from tests.support.stack import Stack
from worker.keeper.purge import Purger


def keyed(gateway: Gateway, key: str, **fields: object) -> requests.Response:
    return gateway.create(headers={"Idempotency-Key": key}, **fields)


def test_a_repeated_request_gets_the_job_it_made(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    first = keyed(gateway, "one", seed="1")
    again = keyed(gateway, '"one"', seed="1")
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["Location"] == first.headers["Location"]
    assert again.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    fake_worker.complete(fake_worker.claim())
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
    gateway.http.delete(f"{gateway.url}/v1/jobs/{first}", timeout=60)
    assert keyed(gateway, "four").json()["id"] != first


def test_twenty_parallel_sends_to_two_gateways_make_one_job_and_one_image(
    gateway: Gateway, fake_worker: FakeWorker, module_stack: Stack
) -> None:
    with running_gateway(module_stack.settings()) as other, ThreadPoolExecutor(20) as senders:
        url = [gateway.url, other.url]

        def send(number: int) -> requests.Response:
            return requests.post(
                f"{url[number % 2]}/v1/jobs",
                files={"image": photo_png()},
                headers={"Idempotency-Key": "all at once".replace(" ", "-")},
                timeout=60,
            )

        answers = list(senders.map(send, range(20)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    replays = [answer.headers.get("Idempotency-Replayed") for answer in answers]
    assert replays.count("true") == 19
    assert len(gateway.get("/v1/jobs").json()["data"]) == 1
    assert fake_worker.storage.delete_prefix("inputs/") == 1


def raw_create(gateway: Gateway, key: str) -> bytes:
    """Return the bytes of a create request with an Idempotency-Key."""
    request = requests.Request(
        "POST",
        f"{gateway.url}/v1/jobs",
        files={"image": ("photo.png", photo_png())},
        headers={"Idempotency-Key": key},
    )
    prepared = gateway.http.prepare_request(request)
    # Each form has a new boundary. The fingerprint stays the same, because it is of the content.
    headers = "".join(f"{name}: {value}\r\n" for name, value in prepared.headers.items())
    assert isinstance(prepared.body, bytes)
    return f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode() + prepared.body


def cut(gateway: Gateway, sent: bytes) -> None:
    """Send these bytes of a request, and hang up without waiting for an answer."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=60) as connection:
        connection.sendall(sent)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_requests_cut_before_their_answer_and_sent_again_are_one_job(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    whole = raw_create(gateway, "cut")
    random = Random(7860)
    cuts = [len(whole)] * 8 + [random.randrange(1, len(whole)) for _ in range(8)]
    random.shuffle(cuts)
    for sent in cuts:
        cut(gateway, whole[:sent])
    answer = keyed(gateway, "cut")
    assert answer.status_code == 202
    again = keyed(gateway, "cut")
    assert again.headers["Idempotency-Replayed"] == "true"
    gateway.wait_until_idle()
    jobs = gateway.get("/v1/jobs").json()["data"]
    assert [job["id"] for job in jobs] == [answer.json()["id"]] == [again.json()["id"]]
    assert fake_worker.claim().public_id == answer.json()["id"]


def test_a_client_that_never_read_its_answer_gets_the_job_it_made(gateway: Gateway) -> None:
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=60) as connection:
        connection.sendall(raw_create(gateway, "unread"))
        (made,) = until(lambda: gateway.get("/v1/jobs").json()["data"], "the job is made")
    again = keyed(gateway, "unread")
    assert (again.json()["id"], again.headers["Idempotency-Replayed"]) == (made["id"], "true")


def test_a_request_that_was_cut_in_its_body_makes_no_job(gateway: Gateway) -> None:
    cut(gateway, raw_create(gateway, "half")[:-100])
    answer = keyed(gateway, "half")
    assert answer.status_code == 202
    assert "Idempotency-Replayed" not in answer.headers
    assert len(gateway.get("/v1/jobs").json()["data"]) == 1


def test_a_request_that_was_refused_does_not_use_its_key_up(gateway: Gateway) -> None:
    assert keyed(gateway, "five", image=b"no image").status_code == 415
    assert keyed(gateway, "five", prompt="x" * 3000).status_code == 422
    assert keyed(gateway, "five").status_code == 202


def test_a_key_is_free_after_a_day(
    gateway: Gateway, fake_worker: FakeWorker, module_stack: Stack
) -> None:
    first = keyed(gateway, "six", prompt="x").json()["id"]
    purger = Purger(fake_worker.db, module_stack.settings())
    purger.forget_keys()
    assert keyed(gateway, "six", prompt="x").json()["id"] == first
    with fake_worker.db.begin() as connection:
        connection.execute(
            text("UPDATE jobs SET created_at = created_at - make_interval(hours => 24)")
        )
    purger.forget_keys()
    other = keyed(gateway, "six", prompt="y")
    assert other.status_code == 202
    assert other.json()["id"] != first
