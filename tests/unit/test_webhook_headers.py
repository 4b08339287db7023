"""The headers that a webhook sends along: which are allowed, and how they are stored."""

import base64
from typing import Any
from uuid import uuid4

import pytest

from api.submit.body import Received, read_create
from api.submit.idempotency import fingerprint
from shared.errors import InvalidRequest
from shared.installation_secret import InstallationSecret, Purpose
from shared.webhooks.headers import HIDDEN, HeaderSeal, check_headers, without

VALUE = "Bearer hunter2-hunter2"
HOOK = "https://cms.example/hook"
OLD, NEW = "o" * 32, "n" * 32


def seal(*secrets: str) -> HeaderSeal:
    return HeaderSeal(InstallationSecret(secrets or (NEW,)).keys(Purpose.WEBHOOK_HEADERS))


def asked(**pairs: str) -> Any:
    """Return a create request from form fields."""
    fields = [("prompt", "a cat"), ("webhook[url]", HOOK)]
    return read_create(Received([*fields, *pairs.items()], {"image": b"image"}, None))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": VALUE},
        {"authorization": "Basic dXNlcjpwYXNz", "X-Api-Key": "k"},
        {"Cookie": "a=b; c=d", "X_Under.dots~": "tab\tin between"},
        {f"X-{number}": "v" for number in range(10)},
        {"X-Long": "v" * 2000},
    ],
)
def test_what_a_receiver_may_ask_for_is_taken(headers: dict[str, str]) -> None:
    assert check_headers(headers) == headers


@pytest.mark.parametrize(
    "name",
    [
        *("Host", "content-length", "Content-Type", "Content-Encoding", "User-Agent", "Date"),
        *("Connection", "Keep-Alive", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "Expect"),
        *("Proxy-Authorization", "Proxy-Connection", "Forwarded", "Via", "X-Forwarded-For"),
        *("webhook-id", "Webhook-Signature", "webhook-timestamp", "svix-id", "Svix-Signature"),
    ],
)
def test_what_the_sender_sets_or_a_connection_means_is_not(name: str) -> None:
    with pytest.raises(ValueError, match="is set by the sender"):
        check_headers({name: "v"})


@pytest.mark.parametrize(
    "name", ["", "X Y", "X:", "X\r\nHost", "X\n", "Ä", "X" * 65, "(x)", "x,y", "\0", "[x]", "x\t"]
)
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no name of a header"):
        check_headers({name: "v"})


@pytest.mark.parametrize(
    "value",
    ["", " ", " v", "v ", "a\r\nX-Evil: b", "a\nb", "a\0b", "ä", "\x7f", "v" * 2001, "v\n"],
)
def test_a_value_that_would_be_more_than_one_header_is_refused_and_not_repeated(
    value: str,
) -> None:
    with pytest.raises(ValueError, match="X-Api-Key is not 1 to 2000") as refused:
        check_headers({"X-Api-Key": value})
    assert len(value) < 5 or value not in str(refused.value)


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({f"X-{number}": "v" for number in range(11)}, "11 headers; it takes 10"),
        ({"X-A": "v", "x-a": "w"}, "x-a comes twice"),
        ({f"X-{number}": "v" * 1900 for number in range(5)}, "8000 characters"),
    ],
)
def test_headers_are_few_and_bounded(headers: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_headers(headers)


def test_a_form_brings_them_one_by_one_or_as_json() -> None:
    one = asked(**{"webhook[headers][Authorization]": VALUE}).fields.webhook
    other = asked(**{"webhook[headers]": f'{{"Authorization": "{VALUE}"}}'}).fields.webhook
    for webhook in (one, other):
        assert webhook.headers["Authorization"].get_secret_value() == VALUE


@pytest.mark.parametrize(
    "json",
    [
        b'{"Authorization": 7312731}',
        b'{"Authorization": ["s3cret-s3cret"]}',
        b'{"Authorization": {"a": "s3cret-s3cret"}}',
        b'{"Authorization": "s3cret\\r\\nX: s3cret-s3cret"}',
        b'{"Host": "s3cret-s3cret"}',
        b'{"X Y": "s3cret-s3cret"}',
        b'["s3cret-s3cret"]',
        b'"s3cret-s3cret"',
        b'{"A": "s3cret-s3cret", "a": "s3cret-s3cret"}',
    ],
)
def test_no_refusal_repeats_a_value(json: bytes) -> None:
    body = b'{"prompt": "a", "webhook": {"url": "https://a.example/", "headers": %s}}' % json
    with pytest.raises(InvalidRequest) as refused:
        read_create(Received((), {"image": b"image"}, body))
    assert str(refused.value.param).startswith("webhook.headers")
    assert "s3cret" not in refused.value.message
    assert "7312731" not in refused.value.message


def test_a_request_never_shows_them() -> None:
    create = asked(**{"webhook[headers][Authorization]": VALUE})
    assert VALUE not in repr(create)
    assert VALUE not in create.fields.model_dump_json()


def test_they_are_no_part_of_what_makes_two_requests_the_same() -> None:
    def mark(**pairs: str) -> str:
        create = asked(**pairs)
        return fingerprint(create.fields, create.images)

    bare = mark()
    assert mark(**{"webhook[headers][Authorization]": VALUE}) == bare
    assert mark(**{"webhook[event_types]": "job.failed"}) != bare


def test_what_is_sealed_is_opened_for_its_job_alone() -> None:
    job, headers = uuid4(), {"Authorization": VALUE}
    sealed = seal().seal(headers, of=job)
    assert seal().open(sealed, of=job) == headers
    assert seal().open(sealed, of=uuid4()) is None
    raw = base64.b64decode(sealed)
    for part in (b"hunter2", b"Authorization", b"Bearer"):
        assert part not in raw
    for index in (0, len(raw) // 2, len(raw) - 1):
        damaged = bytearray(raw)
        damaged[index] ^= 1
        assert seal().open(base64.b64encode(damaged).decode(), of=job) is None
    assert seal().seal(headers, of=job) != sealed


def test_a_new_secret_opens_what_the_old_one_sealed_while_that_is_named() -> None:
    job = uuid4()
    sealed = seal(OLD).seal({"X": "v"}, of=job)
    assert seal(NEW, OLD).open(sealed, of=job) == {"X": "v"}
    assert seal(NEW).open(sealed, of=job) is None


def test_an_answer_that_repeats_a_secret_is_kept_without_it() -> None:
    said = f"you sent Authorization: {VALUE}; token hunter2-hunter2"
    assert without([VALUE], said) == f"you sent Authorization: {HIDDEN}; token {HIDDEN}"
    assert without(["short"], "a short answer") == "a short answer"
    assert without([VALUE], None) is None
