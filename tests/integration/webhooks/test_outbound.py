"""Outgoing requests: which hosts they may reach, for how long, and how much answer is read."""

import contextlib
import itertools
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from ipaddress import ip_address, ip_network

import pytest
import trustme

from shared.outbound import pinned_connection
from shared.outbound.address_rules import Address, Network
from shared.outbound.client import Outbound
from shared.outbound.errors import OutboundFailed, OutboundRefused, OutboundTimedOut
from shared.outbound.pinned_connection import CONNECT_SECONDS, Resolve, resolve_name
from tests.support import receiver as twin
from tests.support.ports import free_port
from tests.support.receiver import Behaviour, Receiver, two_of_a_port

LOOPBACK = ip_network("127.0.0.0/8")
MAX_BYTES = 8192
DEADLINE = timedelta(seconds=0.5)
PATIENCE = 15.0
"""Thirty deadlines, and less than a receiver waits. A slower request hangs, even on a busy
machine."""


def door(
    *,
    allow: Sequence[Network] = (LOOPBACK,),
    deadline: timedelta = timedelta(seconds=30),
    resolve: Resolve = resolve_name,
    tls: ssl.SSLContext | None = None,
    connect_seconds: float = CONNECT_SECONDS,
) -> Outbound:
    return Outbound(
        allow,
        deadline=deadline,
        max_bytes=MAX_BYTES,
        resolve=resolve,
        tls=tls,
        connect_seconds=connect_seconds,
    )


class Ticks:
    """A clock that advances four seconds at each look, so the machine's speed does not matter."""

    def __init__(self) -> None:
        self._asked = itertools.count()

    def monotonic(self) -> float:
        return 4.0 * next(self._asked)


def answers(*addresses: str) -> Resolve:
    """Return a resolver that gives these addresses for every name."""
    return lambda host, port: [ip_address(address) for address in addresses]


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "017700000001",
        "0177.0.0.1",
        "127.1",
        "0",
        "0.0.0.0",  # noqa: S104 (a hostile spelling of this machine)
        "[::1]",
        "[::]",
        "[::127.0.0.1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:7f00:1]",
        "[::ffff:0:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[::1%25lo]",
        "127.0.0.1%00.example.org",
        "１２７.0.0.1",
        "①②⑦.0.0.1",
        "user@127.0.0.1",
        "user:word@127.0.0.1",
        "example.org\\@127.0.0.1",
    ],
)
def test_no_spelling_of_this_machine_is_connected_to(receiver: Receiver, host: str) -> None:
    with pytest.raises(OutboundRefused):
        door(allow=()).post(f"http://{host}:{receiver.port}/", b"{}", {})
    assert receiver.connects == 0


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hook",
        "//127.0.0.1/hook",
        "http://",
        "http:///hook",
        "http://127.0.0.1:0/",
        "http://127.0.0.1:65536/",
        "http://127.0.0.1:web/",
        "http://user@127.0.0.1/",
        "http://user:word@127.0.0.1/",
        "http://a b/",
        "http://a\r\nHost: b/",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "gopher://127.0.0.1/_x",
        "unix:/run/x",
        "https://" + "a" * 300,
    ],
)
def test_only_plain_http_urls_are_followed(url: str) -> None:
    with pytest.raises(OutboundRefused):
        door().post(url, b"{}", {})


def test_a_name_is_refused_when_any_of_its_addresses_is_private(receiver: Receiver) -> None:
    # The loopback address is allowed and the other is not, so both together are refused.
    outbound = door(resolve=answers("127.0.0.1", "10.0.0.1"))

    with pytest.raises(OutboundRefused, match="not at a public address"):
        outbound.post(f"http://hooks.example.org:{receiver.port}/", b"{}", {})
    assert receiver.connects == 0


def test_a_name_that_changes_its_address_is_judged_by_the_one_connected_to() -> None:
    given = iter(["127.0.0.2", "127.0.0.1", "127.0.0.1"])

    def rebinding(host: str, port: int) -> Sequence[Address]:
        return [ip_address(next(given))]

    outbound = door(allow=[ip_network("127.0.0.2/32")], resolve=rebinding)
    with two_of_a_port() as (allowed, canary):
        outbound.post(allowed.url(host="hooks.example.org"), b"{}", {})
        with pytest.raises(OutboundRefused):
            outbound.post(allowed.url(host="hooks.example.org"), b"{}", {})

        assert (allowed.connects, canary.connects) == (1, 0)


def test_the_receiver_gets_the_name_in_host_at_the_address_that_was_resolved() -> None:
    with Receiver("127.0.0.2") as receiver:
        outbound = door(resolve=answers("127.0.0.2"))
        answer = outbound.post(
            receiver.url("/hook?a=%20b#c", host="Hooks.Example.org"), b"{}", {"X-Mine": "1"}
        )

        (request,) = receiver.requests
        assert answer.status_code == 200
        assert request.headers["host"] == f"hooks.example.org:{receiver.port}"
        assert request.headers["x-mine"] == "1"
        assert (request.method, request.path, request.body) == ("POST", "/hook?a=%20b", b"{}")


def test_the_next_address_is_tried_when_one_takes_no_connection() -> None:
    with Receiver("127.0.0.2") as receiver:
        outbound = door(resolve=answers("127.0.0.3", "127.0.0.2"))

        assert outbound.post(receiver.url(host="two.example.org"), b"", {}).status_code == 200


def test_a_host_that_takes_no_connection_costs_less_than_the_deadline() -> None:
    with contextlib.ExitStack() as opened, Receiver("127.0.0.2", port=free_port()) as receiver:
        dead = opened.enter_context(socket.create_server(("127.0.0.1", receiver.port), backlog=0))
        # A full backlog drops connections, as a firewall does.
        for _ in range(4):
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(dead.getsockname())
        patient = timedelta(seconds=600)

        with pytest.raises(OutboundTimedOut, match="did not take the connection in time"):
            door(deadline=patient, connect_seconds=0.2).post(
                f"http://127.0.0.1:{receiver.port}/", b"", {}
            )
        both = door(
            deadline=patient, resolve=answers("127.0.0.1", "127.0.0.2"), connect_seconds=0.2
        )
        assert both.post(receiver.url(host="two.example.org"), b"", {}).status_code == 200


def test_a_proxy_of_the_environment_is_not_used(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Receiver() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url())
        door().post(receiver.url(), b"{}", {})

        assert (receiver.connects, proxy.connects) == (1, 0)


def test_a_redirect_is_an_answer_and_is_not_followed(receiver: Receiver) -> None:
    with Receiver() as private:
        receiver.script("/", twin.redirect(private.url()))

        assert door().post(receiver.url(), b"{}", {}).status_code == 302
        assert private.connects == 0


@pytest.mark.parametrize(
    "behaviour",
    [twin.hang(), twin.late(60), twin.drip_head(0.05)],
    ids=["hang", "late", "drip_head"],
)
def test_no_receiver_holds_a_request_past_its_deadline(
    receiver: Receiver, behaviour: Behaviour
) -> None:
    receiver.script("/", behaviour)
    began = time.monotonic()

    with pytest.raises(OutboundFailed, match=r"no answer within 0\.5 s"):
        door(deadline=DEADLINE).post(receiver.url(), b"{}", {})
    assert time.monotonic() - began < PATIENCE


def test_a_body_that_drips_is_left_at_the_deadline_and_its_status_counts(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.script("/", twin.drip_body(0.05))
    monkeypatch.setattr(pinned_connection, "time", Ticks())
    began = time.monotonic()

    answer = door(deadline=timedelta(seconds=60)).post(receiver.url(), b"{}", {})

    assert answer.status_code == 200
    assert 0 < len(answer.excerpt) < 100
    assert time.monotonic() - began < PATIENCE


@pytest.mark.parametrize("greeting", [twin.hang(), twin.drip_tls(0.05)], ids=["hang", "drip"])
def test_a_tls_handshake_that_never_ends_is_left_at_the_deadline(greeting: Behaviour) -> None:
    began = time.monotonic()

    with Receiver(greeting=greeting) as receiver:
        url = receiver.url().replace("http:", "https:")
        with pytest.raises(OutboundFailed, match=r"no answer within 0\.5 s"):
            door(deadline=DEADLINE).post(url, b"{}", {})
    assert time.monotonic() - began < PATIENCE


def test_a_name_server_that_hangs_is_left_at_the_deadline() -> None:
    released = threading.Event()

    def hanging(host: str, port: int) -> Sequence[Address]:
        released.wait(60)
        return []

    began = time.monotonic()
    with pytest.raises(OutboundFailed, match=r"no answer within 0\.5 s"):
        door(deadline=DEADLINE, resolve=hanging).post("http://slow.example.org/", b"{}", {})
    assert time.monotonic() - began < PATIENCE
    released.set()


def test_an_endless_body_is_cut_at_the_cap(receiver: Receiver) -> None:
    receiver.script("/", twin.endless_body(500))

    answer = door().post(receiver.url(), b"{}", {})

    assert answer.status_code == 500
    assert answer.excerpt == b"x" * MAX_BYTES


def test_nothing_is_waited_for_past_the_cap(receiver: Receiver) -> None:
    receiver.script("/", twin.stalled_body(MAX_BYTES))
    began = time.monotonic()

    answer = door(deadline=timedelta(seconds=30)).post(receiver.url(), b"{}", {})

    assert answer.excerpt == b"x" * MAX_BYTES
    assert time.monotonic() - began < PATIENCE


def test_the_cap_counts_what_is_sent_and_not_only_the_content(receiver: Receiver) -> None:
    receiver.script("/", twin.tiny_chunks())

    answer = door().post(receiver.url(), b"{}", {})

    assert 0 < len(answer.excerpt) < MAX_BYTES


def test_endless_headers_are_no_answer(receiver: Receiver) -> None:
    receiver.script("/", twin.endless_head())

    with pytest.raises(OutboundFailed, match="answered with more than 24576 bytes"):
        door().post(receiver.url(), b"{}", {})


def test_a_compressed_answer_is_not_unpacked(receiver: Receiver) -> None:
    receiver.script("/", twin.gzip_bomb())

    answer = door().post(receiver.url(), b"{}", {})

    assert answer.excerpt.startswith(b"\x1f\x8b")
    assert len(answer.excerpt) < 2000
    assert receiver.requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        (twin.close(), "closed the connection without an answer"),
        (twin.reset(), "cut the connection"),
        (twin.garbage(), "did not answer in HTTP"),
    ],
    ids=["close", "reset", "garbage"],
)
def test_a_broken_answer_is_named_without_the_url(
    receiver: Receiver, behaviour: Behaviour, words: str
) -> None:
    receiver.script("/?token=s3cret", behaviour)

    with pytest.raises(OutboundFailed) as caught:
        door().post(receiver.url("/?token=s3cret"), b"{}", {})
    assert str(caught.value) == f"127.0.0.1 {words}"


def test_a_body_that_is_cut_leaves_a_shorter_excerpt(receiver: Receiver) -> None:
    receiver.script("/", twin.cut_body())

    answer = door().post(receiver.url(), b"{}", {})

    assert (answer.status_code, answer.excerpt) == (200, b"half")


def test_a_closed_port_and_an_unknown_name_are_told_apart() -> None:
    def unknown(host: str, port: int) -> Sequence[Address]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(OutboundFailed, match=r"127\.0\.0\.1 refused the connection"):
        door().post(f"http://127.0.0.1:{free_port()}/", b"{}", {})
    with pytest.raises(OutboundFailed, match="does not resolve"):
        door(resolve=unknown).post("http://no-such-name.invalid/", b"{}", {})


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secure(authority: trustme.CA) -> Iterator[Receiver]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("hooks.example.org").configure_cert(context)
    with Receiver(tls=context) as receiver:
        yield receiver


@pytest.fixture
def trusting(authority: trustme.CA) -> Callable[[], Outbound]:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return lambda: door(resolve=answers("127.0.0.1"), tls=context)


def test_tls_is_verified_by_the_name_and_not_by_the_address(
    secure: Receiver, trusting: Callable[[], Outbound]
) -> None:
    answer = trusting().post(secure.url(host="hooks.example.org"), b"{}", {})

    assert answer.status_code == 200


def test_a_certificate_for_another_name_is_refused(
    secure: Receiver, trusting: Callable[[], Outbound]
) -> None:
    with pytest.raises(OutboundFailed, match="does not verify: Hostname mismatch"):
        trusting().post(secure.url(host="other.example.org"), b"{}", {})
    assert secure.requests == []


def test_a_certificate_of_an_unknown_authority_is_refused(secure: Receiver) -> None:
    with pytest.raises(OutboundFailed, match="does not verify"):
        door(resolve=answers("127.0.0.1")).post(secure.url(host="hooks.example.org"), b"{}", {})
    assert secure.requests == []


def test_a_receiver_without_tls_is_no_https() -> None:
    with Receiver(greeting=twin.garbage()) as plain:
        with pytest.raises(OutboundFailed, match=r"127\.0\.0\.1 did not agree on TLS"):
            door().post(plain.url().replace("http:", "https:"), b"{}", {})
        assert plain.requests == []
