"""Standard Webhooks' own verifier accepts our signatures, and nothing that was changed."""

import base64
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from shared.webhooks.signing import new_secret, sign, webhook_id

BODY = '{"type":"job.succeeded","data":{"prompt":"雪 🌨"}}'.encode()
ID = webhook_id(UUID(int=7))


def now() -> datetime:
    return datetime.now(UTC)


def test_a_receiver_with_the_secret_verifies_the_body() -> None:
    secret = new_secret()

    headers = sign(ID, now(), BODY, signing_secrets=[secret])

    assert Webhook(secret).verify(BODY, headers)["type"] == "job.succeeded"


@pytest.mark.parametrize("held", [0, 1])
def test_during_a_rotation_either_secret_verifies(held: int) -> None:
    both = [new_secret(), new_secret()]

    headers = sign(ID, now(), BODY, signing_secrets=both)

    Webhook(both[held]).verify(BODY, headers)
    assert len(headers["webhook-signature"].split(" ")) == 2


def test_another_secret_does_not_verify() -> None:
    headers = sign(ID, now(), BODY, signing_secrets=[new_secret()])

    with pytest.raises(WebhookVerificationError, match="No matching signature"):
        Webhook(new_secret()).verify(BODY, headers)


@pytest.mark.parametrize("header", ["webhook-id", "webhook-timestamp"])
def test_the_id_and_the_time_are_signed_too(header: str) -> None:
    secret = new_secret()
    headers = sign(ID, now(), BODY, signing_secrets=[secret])
    changed = {
        "webhook-id": "delivery_other",
        "webhook-timestamp": str(int(now().timestamp()) - 9),
    }

    with pytest.raises(WebhookVerificationError, match="No matching signature"):
        Webhook(secret).verify(BODY, headers | {header: changed[header]})


def test_a_changed_body_does_not_verify() -> None:
    secret = new_secret()
    headers = sign(ID, now(), BODY, signing_secrets=[secret])

    with pytest.raises(WebhookVerificationError, match="No matching signature"):
        Webhook(secret).verify(BODY + b" ", headers)


def test_the_zone_of_the_clock_does_not_matter() -> None:
    secret = new_secret()
    at = now().astimezone(timezone(timedelta(hours=8)))

    headers = sign(ID, at, BODY, signing_secrets=[secret])

    Webhook(secret).verify(BODY, headers)
    assert headers["webhook-timestamp"] == str(int(at.timestamp()))


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="aware"):
        sign(ID, datetime(2026, 1, 1), BODY, signing_secrets=[new_secret()])  # noqa: DTZ001


def test_a_secret_is_32_random_bytes_in_standard_base64() -> None:
    drawn = {new_secret() for _ in range(50)}

    assert len(drawn) == 50
    for secret in drawn:
        prefix, encoded = secret.split("_")  # Receivers do so; a second "_" breaks them.
        assert prefix == "whsec"
        assert len(base64.b64decode(encoded, validate=True)) == 32


def test_an_id_holds_no_dot_since_the_signature_joins_with_dots() -> None:
    assert "." not in ID
    assert webhook_id(UUID(int=7)) == ID
