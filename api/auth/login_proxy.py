"""The login that a login proxy names: one header, trusted only from the proxy's own address."""

import re
from collections import OrderedDict
from functools import partial
from ipaddress import IPv6Address, ip_address
from typing import Final
from uuid import UUID

from starlette.datastructures import Headers
from starlette.types import Scope

from api.auth.anonymous import peer_address
from api.auth.patient_reads import PatientReads
from shared.errors.access import HeaderRefused
from shared.owners import Owners
from shared.settings import Settings

MOST_KNOWN: Final = 10_000

_LOGIN: Final = re.compile(
    r"[\x21-\x7e\xa0-\xff](?:[\x20-\x7e\xa0-\xff]{0,198}[\x21-\x7e\xa0-\xff])?"
)


class LoginProxy:
    """Reads the header of the settings; belongs to one event loop."""

    def __init__(self, settings: Settings, owners: Owners, reads: PatientReads) -> None:
        self._header = settings.trusted_header
        self._networks = settings.trusted_networks
        self._owners = owners
        self._reads = reads
        self._known: OrderedDict[str, UUID] = OrderedDict()

    def is_behind(self, scope: Scope) -> bool:
        """Say whether a request comes from the proxy, whether or not it names a login."""
        if self._header is None:
            return False
        try:
            peer = ip_address(peer_address(scope))
        except ValueError:
            return False
        if isinstance(peer, IPv6Address) and peer.ipv4_mapped is not None:
            peer = peer.ipv4_mapped
        return any(peer in network for network in self._networks)

    def login(self, scope: Scope) -> str | None:
        """Return the login that the proxy names, or None if the request names none.

        Raises:
            HeaderRefused: another sender names one, or the value is not a login.
        """
        given = [] if self._header is None else Headers(scope=scope).getlist(self._header)
        if not given:
            return None
        if not self.is_behind(scope):
            raise HeaderRefused(
                f"{self._header} is accepted only from the login proxy, at an address in"
                " STILLREEL_TRUSTED_PROXY; leave it out"
            )
        if len(given) > 1 or not _LOGIN.fullmatch(given[0].strip(" \t")):
            raise HeaderRefused(
                f"{self._header} must come once, and name a login of 1 to 200 characters"
            )
        return given[0].strip(" \t")

    async def owner_id(self, login: str) -> UUID:
        """Return the owner that belongs to a login.

        Raises:
            DatabaseUnavailable: Postgres did not answer in time.
        """
        known = self._known.get(login)
        if known is not None:
            return known
        found = await self._reads.run(partial(self._owners.of_login, login))
        self._known[login] = found
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)
        return found
