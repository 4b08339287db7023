"""Requests of engines that render elsewhere pass the same checks, and are bounded."""

import io
from collections.abc import Iterator
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import pytest

from shared.outbound.client import Outbound
from shared.outbound.errors import (
    AnswerTooLarge,
    OutboundFailed,
    OutboundRefused,
    OutboundTimedOut,
    TooManyRedirects,
)
from tests.support import receiver as twin
from tests.support.ports import free_port
from tests.support.receiver import Receiver, two_of_a_port

MAX_BYTES = 64 * 1024
KEY = {"Authorization": "Bearer canary"}


def door(**values: Any) -> Outbound:
    usual: dict[str, Any] = {
        "allow": [ip_network("127.0.0.0/8")],
        "deadline": timedelta(seconds=30),
        "max_bytes": MAX_BYTES,
    }
    allow = values.pop("allow", usual.pop("allow"))
    return Outbound(allow, **(usual | values))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def downloaded(outbound: Outbound, url: str, **values: Any) -> tuple[int, bytes]:
    file = io.BytesIO()
    told: list[int] = []
    answer = outbound.download(
        url, file, headers=KEY, on_bytes=lambda received, total: told.append(received), **values
    )
    assert not file.getvalue() or told[-1] == len(file.getvalue())
    return answer.status_code, file.getvalue()


@pytest.mark.parametrize("code", [200, 202, 400, 404, 429, 500])
def test_an_answer_comes_whole_whatever_its_status(receiver: Receiver, code: int) -> None:
    receiver.script("/videos/1", twin.status(code, b"x" * MAX_BYTES, Retry_After="3"))
    answer = door().send("DELETE", receiver.url("/videos/1"), headers=KEY)
    assert (answer.status_code, answer.excerpt) == (code, b"x" * MAX_BYTES)
    assert answer.headers["retry-after"] == "3"
    (request,) = receiver.requests
    assert (request.method, request.headers["authorization"]) == ("DELETE", "Bearer canary")


def test_an_answer_that_does_not_end_is_refused(receiver: Receiver) -> None:
    receiver.script("/", twin.endless_body())
    with pytest.raises(AnswerTooLarge):
        door().send("GET", receiver.url(), headers={})


def test_no_redirect_is_followed_with_a_key(receiver: Receiver) -> None:
    receiver.script("/", twin.redirect(receiver.url("/other")))
    assert door().send("GET", receiver.url(), headers=KEY).status_code == 302
    status, body = downloaded(door(), receiver.url(), redirects=0)
    assert (status, body, receiver.at("/other")) == (302, b"", [])


def test_a_key_does_not_go_along_to_who_is_redirected_to(receiver: Receiver) -> None:
    receiver.script("/", twin.redirect(receiver.url("/other")))
    receiver.script("/other", twin.status(200, b"clip"))
    assert downloaded(door(), receiver.url()) == (200, b"clip")
    (other,) = receiver.at("/other")
    assert "authorization" not in other.headers
    receiver.script("/other", twin.redirect(receiver.url("/other")))
    with pytest.raises(TooManyRedirects):
        downloaded(door(), receiver.url())


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (twin.endless_body(), AnswerTooLarge),
        (twin.cut_body(), OutboundFailed),
        (twin.gzip_bomb(), OutboundFailed),
        (twin.status(200, b"x" * (MAX_BYTES + 1)), AnswerTooLarge),
        (twin.tiny_chunks(), AnswerTooLarge),
    ],
)
def test_a_download_is_whole_or_an_error(
    receiver: Receiver, behaviour: twin.Behaviour, error: type[Exception]
) -> None:
    receiver.script("/", behaviour)
    with pytest.raises(error):
        downloaded(door(), receiver.url())


def test_a_download_that_drips_ends_at_the_deadline(receiver: Receiver) -> None:
    receiver.script("/", twin.drip_body(0.05))
    slow = door(deadline=timedelta(seconds=1), max_bytes=2_000_000)
    with pytest.raises(OutboundTimedOut):
        downloaded(slow, receiver.url())


def test_what_is_no_200_is_not_written(receiver: Receiver) -> None:
    receiver.script("/", twin.status(404, b"no such file"))
    assert downloaded(door(), receiver.url()) == (404, b"")


def test_an_operators_server_is_reached_although_it_is_private_and_nothing_else_is() -> None:
    with two_of_a_port() as (other, named):
        outbound = door(allow=(), only=(named.host, named.port), closed_ports=[named.port])
        assert outbound.send("GET", named.url(), headers={}).status_code == 200
        for url in (other.url(), f"http://{named.host}:{free_port()}/"):
            with pytest.raises(OutboundRefused, match="not the server that was named"):
                outbound.send("GET", url, headers={})
        named.script("/to", twin.redirect(other.url("/clip")))
        with pytest.raises(OutboundRefused):
            downloaded(outbound, named.url("/to"))
        assert other.connects == 0


def test_it_is_known_whether_anything_was_sent(receiver: Receiver) -> None:
    with pytest.raises(OutboundFailed) as unsent:
        door().send("POST", f"http://127.0.0.1:{free_port()}/", headers={}, body=b"x")
    receiver.script("/", twin.close())
    with pytest.raises(OutboundFailed) as sent:
        door().send("POST", receiver.url(), headers={}, body=b"x")
    assert (unsent.value.is_sent, sent.value.is_sent) == (False, True)
