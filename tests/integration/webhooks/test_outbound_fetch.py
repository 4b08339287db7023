"""Fetching a client's image: each redirect is checked again, and the image comes whole or not."""

import ssl
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from ipaddress import ip_address, ip_network

import pytest
import trustme

from shared.outbound.address_rules import Address, Network
from shared.outbound.client import MAX_REDIRECTS, Outbound
from shared.outbound.errors import (
    AnswerTooLarge,
    InvalidUrl,
    OutboundFailed,
    OutboundRefused,
    OutboundTimedOut,
    TooManyRedirects,
    UnusableAnswer,
)
from shared.outbound.pinned_connection import Resolve, resolve_name
from tests.support import receiver as twin
from tests.support.receiver import Behaviour, Receiver, two_of_a_port

LOOPBACK = ip_network("127.0.0.0/8")
MAX_BYTES = 64 * 1024
PATIENCE = 15.0
"""Thirty deadlines, and less than a receiver waits."""
IMAGE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 100


def door(
    *,
    allow: Sequence[Network] = (LOOPBACK,),
    seconds: float = 30,
    max_bytes: int = MAX_BYTES,
    resolve: Resolve = resolve_name,
    tls: ssl.SSLContext | None = None,
    closed_ports: Sequence[int] = (),
    inner_ports: Sequence[int] = (),
) -> Outbound:
    return Outbound(
        allow,
        deadline=timedelta(seconds=seconds),
        max_bytes=max_bytes,
        closed_ports=closed_ports,
        inner_ports=inner_ports,
        resolve=resolve,
        tls=tls,
    )


def fetched(url: str, outbound: Outbound | None = None) -> bytes:
    return (outbound or door()).fetch(url, accept="image/png")


def test_an_image_comes_whole(receiver: Receiver) -> None:
    receiver.script("/a.png", twin.status(200, IMAGE))

    assert fetched(receiver.url("/a.png")) == IMAGE


def test_nothing_of_ours_is_sent_along(receiver: Receiver) -> None:
    receiver.script("/a.png?x=1", twin.status(200, b"x", Set_Cookie="a=b; Domain=127.0.0.1"))
    receiver.script("/from", twin.redirect(receiver.url("/a.png?x=1")))
    outbound = door()

    fetched(receiver.url("/a.png?x=1#part"), outbound)
    fetched(receiver.url("/from"), outbound)

    for request in receiver.requests:
        assert (request.method, request.body) == ("GET", b"")
        assert request.headers == {
            "host": f"127.0.0.1:{receiver.port}",
            "user-agent": "Stillreel",
            "accept": "image/png",
            "accept-encoding": "identity",
            "connection": "close",
        }


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed(receiver: Receiver, code: int) -> None:
    receiver.script("/old/a", twin.status(code, b"moved", Location="../new/b?c"))
    receiver.script("/new/b?c", twin.status(200, IMAGE))

    assert fetched(receiver.url("/old/a")) == IMAGE


def test_redirects_are_followed_up_to_a_number(receiver: Receiver) -> None:
    for hop in range(MAX_REDIRECTS + 1):
        receiver.script(f"/{hop}", twin.redirect(f"/{hop + 1}"))
    receiver.script(f"/{MAX_REDIRECTS + 1}", twin.status(200, IMAGE))

    assert fetched(receiver.url("/1")) == IMAGE
    connects = receiver.connects
    with pytest.raises(TooManyRedirects, match="more than 4 redirects"):
        fetched(receiver.url("/0"))
    assert receiver.connects == connects + MAX_REDIRECTS + 1


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.2:{port}/",
        "//127.0.0.2:{port}/",
        "http://2130706434:{port}/",
        "http://[::ffff:127.0.0.2]:{port}/",
        "http://user@127.0.0.2:{port}/",
        "file:///etc/passwd",
        "gopher://127.0.0.2:{port}/",
        "http://127.0.0.2:99999/",
        "http://[",
    ],
)
def test_a_redirect_passes_the_same_door(location: str) -> None:
    with two_of_a_port() as (private, first):
        first.script("/", twin.redirect(location.format(port=private.port)))

        with pytest.raises(OutboundRefused):
            fetched(first.url(), door(allow=[ip_network("127.0.0.1/32")]))
        assert (first.connects, private.connects) == (1, 0)


def test_a_name_is_resolved_anew_for_each_hop_and_judged_anew() -> None:
    given = iter(["127.0.0.2", "127.0.0.1", "127.0.0.1"])

    def rebinding(host: str, port: int) -> Sequence[Address]:
        return [ip_address(next(given))]

    with two_of_a_port() as (allowed, canary):
        allowed.script("/", twin.redirect("/again"))
        outbound = door(allow=[ip_network("127.0.0.2/32")], resolve=rebinding)
        with pytest.raises(OutboundRefused, match="not at a public address"):
            fetched(allowed.url(host="images.example.org"), outbound)
        assert (allowed.connects, canary.connects) == (1, 0)


def test_a_redirect_without_a_place_is_no_image(receiver: Receiver) -> None:
    receiver.script("/", twin.status(302))

    with pytest.raises(UnusableAnswer, match="answered 302 in place of 200"):
        fetched(receiver.url())


@pytest.mark.parametrize("code", [201, 204, 206, 304, 403, 404, 410, 500, 503])
def test_only_200_brings_an_image(receiver: Receiver, code: int) -> None:
    receiver.script("/", twin.status(code, b"" if code in (204, 304) else b"the secret page"))

    with pytest.raises(UnusableAnswer) as caught:
        fetched(receiver.url())
    assert caught.value.message == f"127.0.0.1 answered {code} in place of 200"


def test_a_compressed_answer_is_refused_and_not_unpacked(receiver: Receiver) -> None:
    receiver.script("/", twin.gzip_bomb())

    with pytest.raises(UnusableAnswer, match="answered with a Content-Encoding"):
        fetched(receiver.url())


def test_an_image_as_large_as_the_limit_comes_and_one_byte_more_does_not(
    receiver: Receiver,
) -> None:
    receiver.script("/fits", twin.status(200, bytes(MAX_BYTES)))
    receiver.script("/more", twin.status(200, bytes(MAX_BYTES + 1)))
    receiver.script("/undeclared", undeclared(MAX_BYTES + 1))

    assert len(fetched(receiver.url("/fits"))) == MAX_BYTES
    for path in ("/more", "/undeclared"):
        with pytest.raises(AnswerTooLarge, match=f"more than {MAX_BYTES} bytes"):
            fetched(receiver.url(path))


def undeclared(size: int) -> Behaviour:
    return lambda peer: peer.send(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(size))


def announced_too_large(peer: twin.Peer) -> None:
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")
    peer.wait_until_gone()


@pytest.mark.parametrize(
    "behaviour",
    [twin.endless_body(), twin.tiny_chunks(), twin.endless_head(), announced_too_large],
    ids=["endless", "tiny_chunks", "endless_head", "announced"],
)
def test_what_is_too_large_is_left_as_soon_as_that_is_known(
    receiver: Receiver, behaviour: Behaviour
) -> None:
    receiver.script("/", behaviour)
    began = time.monotonic()

    with pytest.raises(AnswerTooLarge):
        fetched(receiver.url(), door(seconds=60))
    assert time.monotonic() - began < 2 * PATIENCE


def test_half_an_image_is_none(receiver: Receiver) -> None:
    receiver.script("/", twin.cut_body())

    with pytest.raises(OutboundFailed, match="ended its answer in the middle"):
        fetched(receiver.url())


@pytest.mark.parametrize(
    "behaviour",
    [twin.hang(), twin.drip_head(0.05), twin.drip_body(0.05), twin.stalled_body(10)],
    ids=["hang", "drip_head", "drip_body", "stalled_body"],
)
def test_no_server_holds_a_fetch_past_its_deadline(
    receiver: Receiver, behaviour: Behaviour
) -> None:
    receiver.script("/", behaviour)
    began = time.monotonic()

    with pytest.raises(OutboundTimedOut, match=r"no answer within 0\.5 s"):
        fetched(receiver.url(), door(seconds=0.5, max_bytes=2_000_000))
    assert time.monotonic() - began < PATIENCE


def test_one_deadline_is_for_all_hops_together(receiver: Receiver) -> None:
    # Each hop alone would be in time.
    def late_redirect(peer: twin.Peer) -> None:
        peer.pause(0.3)
        twin.redirect("/")(peer)

    receiver.script("/", late_redirect)

    with pytest.raises(OutboundTimedOut):
        fetched(receiver.url(), door(seconds=0.5))
    assert receiver.connects <= 2


@pytest.mark.parametrize("kind", ["closed", "inner"])
def test_a_port_of_our_own_is_closed_even_in_an_allowed_network(
    receiver: Receiver, kind: str
) -> None:
    ours = [receiver.port]
    outbound = door(closed_ports=ours) if kind == "closed" else door(inner_ports=ours)

    with Receiver() as first:
        first.script("/", twin.redirect(receiver.url()))
        for ask in (
            lambda: outbound.check(receiver.url()),
            lambda: outbound.post(receiver.url(), b"", {}),
            lambda: outbound.fetch(receiver.url(), accept="*/*"),
            lambda: outbound.fetch(first.url(), accept="*/*"),
        ):
            with pytest.raises(OutboundRefused, match="is closed to requests from here"):
                ask()
    assert receiver.connects == 0


def test_an_inner_ports_number_is_open_on_a_public_host() -> None:
    """The store's filer has port 8888, and a stranger's receiver may have it too."""
    public = ip_address("93.184.215.14")
    outbound = door(inner_ports=[8888], resolve=lambda host, port: [public])
    outbound.check("http://receiver.example:8888/")
    mixed = door(inner_ports=[8888], resolve=lambda host, port: [public, ip_address("127.0.0.1")])
    with pytest.raises(OutboundRefused, match="port 8888 is closed to requests from here"):
        mixed.check("http://receiver.example:8888/")


@pytest.mark.parametrize("port", [1, 22, 25, 79, 81, 442, 444, 1023])
def test_below_1024_only_the_webs_own_ports_are_asked(port: int) -> None:
    with pytest.raises(InvalidUrl, match=f"port {port} is not allowed"):
        fetched(f"http://127.0.0.1:{port}/")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secured(authority: trustme.CA) -> Callable[[str], Receiver]:
    def make(name: str) -> Receiver:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(context)
        return Receiver(tls=context)

    return make


@pytest.fixture
def trusting(authority: trustme.CA) -> Outbound:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return door(resolve=lambda host, port: [ip_address("127.0.0.1")], tls=context)


def test_each_hop_is_verified_by_its_own_name(
    secured: Callable[[str], Receiver], trusting: Outbound
) -> None:
    with secured("a.example.org") as first, secured("b.example.org") as second:
        second.script("/", twin.status(200, IMAGE))
        first.script("/good", twin.redirect(second.url(host="b.example.org")))
        first.script("/bad", twin.redirect(second.url(host="a.example.org")))

        assert fetched(first.url("/good", host="a.example.org"), trusting) == IMAGE
        with pytest.raises(OutboundFailed, match="does not verify: Hostname mismatch"):
            fetched(first.url("/bad", host="a.example.org"), trusting)


def test_a_redirect_out_of_tls_is_refused(
    secured: Callable[[str], Receiver], trusting: Outbound, receiver: Receiver
) -> None:
    with secured("a.example.org") as first:
        first.script("/", twin.redirect(receiver.url()))
        with pytest.raises(OutboundRefused, match="from https to http"):
            fetched(first.url(host="a.example.org"), trusting)
    assert receiver.connects == 0
