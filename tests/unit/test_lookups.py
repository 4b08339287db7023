"""Name lookups: a limit for all, and one for each owner; lookups that were given up count too."""

import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from uuid import UUID, uuid4

import pytest

from shared.outbound.address_rules import Address
from shared.outbound.client import Outbound
from shared.outbound.errors import OutboundFailed, OutboundTimedOut, TooManyLookups
from shared.outbound.pinned_connection import LOOKUPS_EACH, MAX_LOOKUPS, Deadline, Lookups
from worker.keeper.webhook_sender import Message, send

MINE, YOURS = uuid4(), uuid4()
PUBLIC = [ip_address("8.8.8.8")]


class NameServer:
    """Answers for each name, but for names that begin with `dead` only when a test says so."""

    def __init__(self) -> None:
        self.woken = threading.Event()

    def resolve(self, host: str, port: int) -> Sequence[Address]:
        if host.startswith("dead"):
            assert self.woken.wait(30)
        return PUBLIC


@pytest.fixture
def name_server() -> Iterator[NameServer]:
    name_server = NameServer()
    yield name_server
    name_server.woken.set()


def find(
    lookups: Lookups, host: str, owner_id: UUID | None, *, seconds: float = 10.0
) -> Sequence[Address]:
    return lookups.addresses(host, 443, Deadline(timedelta(seconds=seconds)), owner_id=owner_id)


def give_up(lookups: Lookups, count: int, owner_id: UUID | None) -> None:
    for _ in range(count):
        with pytest.raises(OutboundTimedOut):
            find(lookups, "dead.example.org", owner_id, seconds=0.002)


def test_an_owners_dead_name_server_leaves_lookups_for_another_owner(
    name_server: NameServer,
) -> None:
    lookups = Lookups(name_server.resolve)
    give_up(lookups, LOOKUPS_EACH, MINE)

    with pytest.raises(TooManyLookups):
        find(lookups, "alive.example.org", MINE, seconds=0.01)
    assert find(lookups, "alive.example.org", YOURS) == PUBLIC


def test_all_owners_together_have_a_limit_too(name_server: NameServer) -> None:
    lookups = Lookups(name_server.resolve)
    give_up(lookups, MAX_LOOKUPS, None)

    with pytest.raises(OutboundFailed, match="too many name lookups"):
        find(lookups, "alive.example.org", YOURS, seconds=0.01)


def test_a_lookup_that_ends_makes_room_for_the_next(name_server: NameServer) -> None:
    lookups = Lookups(name_server.resolve)
    give_up(lookups, LOOKUPS_EACH, MINE)
    threading.Timer(0.01, name_server.woken.set).start()

    assert find(lookups, "alive.example.org", MINE) == PUBLIC


def test_a_webhooks_lookup_is_its_owners(name_server: NameServer) -> None:
    outbound = Outbound(
        [], deadline=timedelta(seconds=0.02), max_bytes=0, resolve=name_server.resolve
    )
    at = datetime(2026, 1, 1, tzinfo=UTC)
    message = Message(MINE, "https://dead.example.org/", {}, b"", at)

    errors = [send(outbound, message).error for _ in range(LOOKUPS_EACH + 1)]

    assert errors[0] == "no answer within 0.02 s"
    assert errors[-1] == "too many name lookups are waiting for the name server"
