"""Other people's clients and verifiers, unchanged, with our webhooks."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import standardwebhooks
from openai import InvalidWebhookSignatureError, NotFoundError, OpenAI
from replicate.webhook import InvalidSignatureError, Webhooks, WebhookSigningSecret

from tests.support import receiver as twin
from tests.support.gateway import ADMIN_KEY, Gateway
from tests.support.outbox import Outbox, Sender
from tests.support.receiver import Received, Receiver

pytestmark = pytest.mark.extended

Verify = Callable[[bytes, Mapping[str, str], str], object]


def by_standardwebhooks(body: bytes, headers: Mapping[str, str], key: str) -> object:
    return standardwebhooks.Webhook(key).verify(body, dict(headers))


def by_svix(body: bytes, headers: Mapping[str, str], key: str) -> None:
    # It is imported here, because it would take half a second in each process of each run.
    from svix.webhooks import Webhook

    Webhook(key).verify(body, dict(headers))


def by_openai(body: bytes, headers: Mapping[str, str], key: str) -> object:
    return OpenAI(api_key="none").webhooks.unwrap(body, headers, secret=key)


def by_replicate(body: bytes, headers: Mapping[str, str], key: str) -> object:
    secret = WebhookSigningSecret(key=key)
    return Webhooks.validate(headers=dict(headers), body=body.decode(), secret=secret)


VERIFIERS = [
    (by_standardwebhooks, standardwebhooks.WebhookVerificationError),
    (by_svix, standardwebhooks.WebhookVerificationError),  # Svix raises the same class.
    (by_openai, InvalidWebhookSignatureError),
    (by_replicate, InvalidSignatureError),
]


@pytest.fixture
def client(webhook_gateway: Gateway) -> Iterator[OpenAI]:
    """OpenAI's client, which raises an error if an answer is not exactly OpenAI's."""
    with OpenAI(
        api_key=ADMIN_KEY,
        base_url=f"{webhook_gateway.url}/v1",
        max_retries=0,
        _strict_response_validation=True,
    ) as client:
        yield client


def register(client: OpenAI, receiver: Receiver, *events: str) -> Any:
    types: Any = list(events)  # OpenAI's types list only OpenAI's events.
    return client.webhooks.create(name="mine", url=receiver.url("/hook"), event_types=types)


@pytest.mark.parametrize(("verify", "refusal"), VERIFIERS, ids=lambda each: each.__name__)
def test_a_delivery_verifies_before_during_and_after_a_rotation(
    verify: Verify,
    refusal: type[Exception],
    client: OpenAI,
    outbox: Outbox,
    running_sender: Sender,
    receiver: Receiver,
) -> None:
    def delivered() -> Received:
        # The count is taken before the job ends, because the end is sent at once.
        count = len(receiver.requests) + 1
        outbox.finish()
        return receiver.wait_for(count, "/hook")[-1]

    made = register(client, receiver, "job.succeeded")
    before = delivered()
    rotated = client.webhooks.rotate_secret(made.id, keep_old_secret_active_for_24_hours=True)
    old, new = made.signing_secret, rotated.signing_secret
    during = delivered()
    outbox.run("UPDATE webhook_endpoints SET previous_secret_until = clock_timestamp()")
    after = delivered()

    for request, good, bad in (
        (before, [old], [new]),
        (during, [old, new], []),
        (after, [new], [old]),
    ):
        for key in good:
            verify(request.body, request.headers, key)
        for key in bad:
            with pytest.raises(refusal):
                verify(request.body, request.headers, key)
        with pytest.raises(refusal):
            verify(request.body + b" ", request.headers, good[0])


def test_a_rotation_without_overlap_ends_the_old_secret_at_once(
    client: OpenAI, outbox: Outbox, running_sender: Sender, receiver: Receiver
) -> None:
    made = register(client, receiver, "job.succeeded")
    client.webhooks.rotate_secret(made.id, keep_old_secret_active_for_24_hours=True)
    rotated = client.webhooks.rotate_secret(made.id)
    outbox.finish()
    (request,) = receiver.wait_for(1, "/hook")
    assert len(request.headers["webhook-signature"].split(" ")) == 1
    by_openai(request.body, request.headers, rotated.signing_secret)


def test_openais_client_manages_endpoints(
    client: OpenAI, outbox: Outbox, running_sender: Sender, receiver: Receiver
) -> None:
    assert "video.completed" in client.webhooks.event_types.list().data
    made = register(client, receiver, "video.completed", "video.failed")
    other = register(client, receiver, "video.failed")
    found = client.webhooks.retrieve(made.id)
    assert (found.name, found.url) == ("mine", receiver.url("/hook"))
    assert found.event_types == ["video.completed", "video.failed"]
    assert [each.id for each in client.webhooks.list(limit=1)] == [other.id, made.id]
    assert client.webhooks.update(made.id, name="other").name == "other"
    tried = client.webhooks.test(made.id, event_type="video.completed")
    assert (tried.status_code, tried.webhook_endpoint_id) == (200, made.id)
    assert client.webhooks.delete(made.id).deleted
    with pytest.raises(NotFoundError) as missing:
        client.webhooks.retrieve(made.id)
    assert missing.value.code == "not_found"


def test_an_endpoint_for_video_events_gets_openais_names_and_bodies(
    client: OpenAI, outbox: Outbox, running_sender: Sender, receiver: Receiver
) -> None:
    made = register(client, receiver, "video.completed", "video.failed")
    job = outbox.finish()
    (request,) = receiver.wait_for(1, "/hook")
    body = json.loads(request.body)
    assert body == {
        "id": f"evt_{request.headers['webhook-id'].removeprefix('delivery_')}",
        "object": "event",
        "created_at": int(job.finished_at.timestamp()) if job.finished_at else None,
        "type": "video.completed",
        "data": {"id": job.public_id},
    }
    event: Any = client.webhooks.unwrap(request.body, request.headers, secret=made.signing_secret)
    assert (event.type, event.data.id) == ("video.completed", job.public_id)


@pytest.mark.parametrize("end", ["cancel", "fail"])
def test_a_canceled_or_failed_job_is_a_failed_video(
    end: str, client: OpenAI, outbox: Outbox, running_sender: Sender, receiver: Receiver
) -> None:
    register(client, receiver, "video.failed", "job.canceled", "job.failed")
    job = outbox.cancel() if end == "cancel" else outbox.fail()
    types = {json.loads(each.body)["type"] for each in receiver.wait_for(2, "/hook")}
    assert types == {"video.failed", f"job.{job.status}"}
    assert len(outbox.rows()) == 2


def test_a_start_is_no_video_event(
    client: OpenAI, outbox: Outbox, running_sender: Sender, receiver: Receiver
) -> None:
    register(client, receiver, "job.started", "video.completed", "video.failed")
    outbox.finish()
    types = [row["event"] for row in outbox.rows()]
    assert types == ["job.started", "video.completed"]
    receiver.wait_for(2, "/hook")


def test_a_test_send_tells_what_the_receiver_answered(
    client: OpenAI, outbox: Outbox, running_sender: Sender, receiver: Receiver
) -> None:
    made = register(client, receiver, "job.failed")
    receiver.script("/hook", twin.status(503))
    event: Any = "job.failed"
    tried = client.webhooks.test(made.id, event_type=event)
    assert (tried.status_code, tried.success) == (503, True)
    (request,) = receiver.wait_for(1, "/hook")
    body: Any = by_standardwebhooks(request.body, request.headers, made.signing_secret)
    assert (body["type"], body["data"]["status"]) == ("job.failed", "failed")
    assert outbox.row()["status"] == "dead"  # A test is sent only once.
    assert outbox.endpoint_row()["failing_since"] is None
