"""Which addresses an outgoing request may reach: public ones, and what an operator allows."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# `ipaddress.is_global` lets 17 of the 47 bad addresses of a test through, among them NAT64,
# multicast and two clouds' metadata servers. So we have a table of our own. A range that contains
# IPv4 addresses inside is refused as a whole, whatever is inside.
DENIED: Final[tuple[Network, ...]] = (
    ip_network("0.0.0.0/8"),  # "This network"; Linux connects 0.0.0.0 to itself: RFC 1122
    ip_network("10.0.0.0/8"),  # Private: RFC 1918
    ip_network("100.64.0.0/10"),  # Carrier NAT, and one cloud's metadata: RFC 6598
    ip_network("127.0.0.0/8"),  # Loopback: RFC 1122
    ip_network("168.63.129.16/32"),  # A cloud's host agent at a public address: Azure
    ip_network("169.254.0.0/16"),  # Link-local, most clouds' metadata: RFC 3927
    ip_network("172.16.0.0/12"),  # Private: RFC 1918
    ip_network("192.0.0.0/24"),  # Protocol assignments, one cloud's metadata: RFC 6890
    ip_network("192.0.2.0/24"),  # Documentation: RFC 5737
    ip_network("192.88.99.0/24"),  # 6to4 relays, withdrawn: RFC 7526
    ip_network("192.168.0.0/16"),  # Private: RFC 1918
    ip_network("198.18.0.0/15"),  # Benchmarks: RFC 2544
    ip_network("198.51.100.0/24"),  # Documentation: RFC 5737
    ip_network("203.0.113.0/24"),  # Documentation: RFC 5737
    ip_network("224.0.0.0/4"),  # Multicast: RFC 5771
    ip_network("240.0.0.0/4"),  # Reserved, and broadcast: RFC 1112, RFC 919
    ip_network("::/96"),  # Unspecified, loopback, IPv4-compatible: RFC 4291
    ip_network("::ffff:0:0/96"),  # IPv4-mapped: RFC 4291
    ip_network("::ffff:0:0:0/96"),  # IPv4-translated: RFC 2765
    ip_network("64:ff9b::/32"),  # NAT64, well-known and local: RFC 6052, RFC 8215
    ip_network("100::/64"),  # Discard: RFC 6666
    ip_network("2001::/23"),  # Teredo (IPv4 inside), ORCHID, benchmarks: RFC 4380, RFC 2928
    ip_network("2001:db8::/32"),  # Documentation: RFC 3849
    ip_network("2002::/16"),  # 6to4, IPv4 inside: RFC 3056
    ip_network("3ffe::/16"),  # The old test network, returned: RFC 3701
    ip_network("3fff::/20"),  # Documentation: RFC 9637
    ip_network("5f00::/16"),  # Segment routing: RFC 9602
    ip_network("fc00::/7"),  # Unique local, one cloud's metadata: RFC 4193
    ip_network("fe80::/10"),  # Link-local: RFC 4291
    ip_network("fec0::/10"),  # Site-local, withdrawn: RFC 3879
    ip_network("ff00::/8"),  # Multicast: RFC 4291
)

UNICAST: Final[tuple[Network, ...]] = (
    ip_network("0.0.0.0/0"),
    ip_network("2000::/3"),  # No other range of IPv6 is assigned as public: RFC 4291, IANA
)


def is_public(address: Address, allow: Sequence[Network] = ()) -> bool:
    """Say whether a request made for a client may connect here; `allow` wins over the table."""
    if _within(address, allow):
        return True
    return _within(address, UNICAST) and not _within(address, DENIED)


def _within(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)
