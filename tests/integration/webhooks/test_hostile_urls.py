"""No spelling of a private address is connected to, on any way that follows a client's URL.

Canaries listen on every address of this machine, on a port of their own and on the usual ports of
our services. A witness records every connect, even to addresses where nobody listens. A stub below
the code under test resolves names, so that no lookup leaves the machine.
"""

import socket
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from ipaddress import ip_network

import pytest

from shared.errors import AppError
from shared.outbound import pinned_connection
from shared.outbound.client import Outbound
from shared.outbound.errors import InvalidUrl, OutboundFailed, OutboundRefused
from tests.support import hostile
from tests.support.canary import SERVICE_PORTS, Canaries, Witness
from tests.support.gateway import FakeWorker, Gateway
from tests.support.hostile import TARGETS, Resolver
from tests.support.receiver import Receiver

LEAST = 500
BLIND_PORT = 40_000
"""This port names the kinds before the canaries have a port; no request uses it."""

REDIRECTOR = "127.77.0.1"
"""The only allowed address. It answers with a redirect to the spelling."""

Ask = Callable[[str], object]


def by_kind(port: int) -> dict[str, list[str]]:
    kinds: dict[str, list[str]] = defaultdict(list)
    for kind, url in (*hostile.by_address(port), *hostile.by_trick(port)):
        kinds[kind].append(url)
    return kinds


ADDRESS_KINDS = sorted({kind for kind, _ in hostile.by_address(BLIND_PORT)})
KINDS = sorted(by_kind(BLIND_PORT))


@pytest.fixture(scope="module")
def witness() -> Witness:
    return Witness()


@pytest.fixture(scope="module")
def canaries() -> Iterator[Canaries]:
    canaries = Canaries()
    yield canaries
    canaries.close()


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    stub = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", stub)
    return stub


@pytest.fixture(scope="module")
def redirector() -> Iterator[Receiver]:
    with Receiver(REDIRECTOR) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def door() -> Outbound:
    return Outbound(
        [ip_network(f"{REDIRECTOR}/32")], deadline=timedelta(seconds=20), max_bytes=1000
    )


@pytest.fixture
def ways(door: Outbound, redirector: Receiver) -> Mapping[str, Ask]:
    """Return every way in which a client's URL is followed.

    A redirect to something that is no whole URL leads back to the redirector, and may be followed
    there.
    """

    def redirected(url: str) -> object:
        head = f"HTTP/1.1 302 Found\r\nLocation: {url}\r\nContent-Length: 0\r\n\r\n"
        redirector.script("/", lambda peer: peer.send(head.encode("utf-8", "replace")))
        door.fetch(redirector.url(), accept="image/png")
        raise OutboundRefused("the redirect was followed to where it came from")

    return {
        "check": door.check,
        "webhook": lambda url: door.post(url, b"{}", {}),
        "image": lambda url: door.fetch(url, accept="image/png"),
        "redirect": redirected,
    }


def refusal(ask: Ask, url: str) -> AppError:
    """Return the error that refuses a URL; anything else fails the test and names the URL."""
    try:
        ask(url)
    except (OutboundRefused, OutboundFailed) as error:
        return error
    except Exception as error:
        raise AssertionError(f"{url!r} was met with {error!r}") from error
    raise AssertionError(f"{url!r} was not refused")


def others(attempts: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    return [attempt for attempt in attempts if attempt[0] != REDIRECTOR]


def test_there_are_many_spellings_and_no_two_alike() -> None:
    urls = [url for kind in by_kind(BLIND_PORT).values() for url in kind]

    assert len(set(urls)) >= LEAST
    assert len(set(urls)) >= 0.99 * len(urls)
    assert len(KINDS) >= 60


@pytest.mark.parametrize("kind", KINDS)
def test_no_spelling_is_connected_to(
    kind: str, canaries: Canaries, witness: Witness, resolver: Resolver, ways: Mapping[str, Ask]
) -> None:
    with witness.listening() as attempts:
        for url in by_kind(canaries.port)[kind]:
            for ask in ways.values():
                refusal(ask, url)
    assert others(attempts) == []
    assert canaries.woken == 0


@pytest.mark.parametrize("kind", ADDRESS_KINDS)
def test_what_leads_to_an_address_is_refused_for_that_address(
    kind: str, canaries: Canaries, resolver: Resolver, ways: Mapping[str, Ask]
) -> None:
    # A failure for another reason would prove nothing about the table.
    for url in by_kind(canaries.port)[kind]:
        for ask in (ways["check"], ways["webhook"], ways["image"]):
            error = refusal(ask, url)
            assert isinstance(error, OutboundRefused), url
            assert not isinstance(error, InvalidUrl), url
            assert "is not at a public address" in error.message


@pytest.mark.parametrize("port", SERVICE_PORTS)
def test_no_usual_port_of_a_service_is_connected_to(
    port: int, canaries: Canaries, witness: Witness, resolver: Resolver, ways: Mapping[str, Ask]
) -> None:
    hosts = ("127.0.0.1", "localhost", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]", "0", "postgres")
    with witness.listening() as attempts:
        for host in hosts:
            for ask in ways.values():
                assert isinstance(refusal(ask, f"http://{host}:{port}/"), OutboundRefused)
    assert others(attempts) == []
    assert canaries.woken == 0


@pytest.mark.parametrize("way", ["webhook", "image"])
@pytest.mark.parametrize("number", range(len(TARGETS)))
def test_a_name_that_turns_private_after_its_check_is_not_connected_to(
    number: int, way: str, witness: Witness, resolver: Resolver, ways: Mapping[str, Ask]
) -> None:
    url = f"http://rebinding-{number}.example.org:8080/"
    with witness.listening() as attempts:
        ways["check"](url)
        assert "not at a public address" in refusal(ways[way], url).message
    assert attempts == []
    # There is one for each request.
    assert resolver.asked[f"rebinding-{number}.example.org"] == 2


def test_no_error_shows_where_a_name_leads(resolver: Resolver, ways: Mapping[str, Ask]) -> None:
    for name, addresses in hostile.NAMES.items():
        for ask in ways.values():
            message = refusal(ask, f"http://{name}:8080/").message
            assert not any(address in message for address in addresses)


def test_the_canaries_and_the_witness_hear_what_is_allowed(
    canaries: Canaries, witness: Witness, resolver: Resolver
) -> None:
    woken = canaries.woken
    allowed = Outbound(
        [ip_network("127.0.0.0/8"), ip_network("::1/128")],
        deadline=timedelta(seconds=20),
        max_bytes=1000,
    )
    asks: Sequence[Ask] = (
        lambda url: allowed.post(url, b"", {}),
        lambda url: allowed.fetch(url, accept="image/png"),
    )
    urls = [f"http://{host}:{port}/" for host in ("0x7f.2", "[::1]") for port in canaries.ports]
    with witness.listening() as attempts:
        for url in urls:
            for ask in asks:
                ask(url)
    try:
        assert canaries.woken == woken + len(attempts) == woken + 2 * len(urls)
    finally:
        canaries.woken = 0


def test_without_the_table_the_canaries_are_woken(
    canaries: Canaries,
    witness: Witness,
    resolver: Resolver,
    ways: Mapping[str, Ask],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Other addresses stay refused, because a test must not connect beyond this machine.
    monkeypatch.setattr(pinned_connection, "is_public", lambda address, allow: address.is_loopback)
    heard = 0
    try:
        for kind, urls in by_kind(canaries.port).items():
            with witness.listening() as attempts:
                for url in urls[:3]:
                    if kind in ADDRESS_KINDS and kind not in NEVER_LOOPBACK:
                        ways["image"](url)
                heard += len(attempts)
        assert heard == canaries.woken >= 40
    finally:
        canaries.woken = 0


def test_no_spelling_gets_a_job_made(
    gateway: Gateway, fake_worker: FakeWorker, canaries: Canaries, resolver: Resolver
) -> None:
    kinds = by_kind(canaries.port)
    for kind in KINDS:
        url = kinds[kind][0]
        for fields in ({"image": {"url": url}}, {"image": {"url": url}, "webhook": {"url": url}}):
            refused = gateway.post("/v1/jobs", json=fields)
            assert refused.status_code in (413, 422), (kind, refused.text)
            assert refused.json()["param"] in ("image.url", "image", "webhook.url", "url"), kind
    assert gateway.get("/v1/jobs").json()["data"] == []
    assert canaries.woken == 0


# According to Python's own property, none of these leads to loopback.
NEVER_LOOPBACK = {
    "mapped",
    "mapped in hexadecimal",
    "mapped exploded",
    "compatible",
    "translated",
    "NAT64",
    "local NAT64",
    "6to4",
    "Teredo",
    "Teredo server",
    "ISATAP",
    "ISATAP in a private net",
    "v6",
    "v6 exploded",
    "v6 upper case",
    "inner name",
    "inner name with a dot",
    "answers with the bad first",
    "answers with the bad last",
}
