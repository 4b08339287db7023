"""The addresses that none of our requests may reach; the table has one line for each range."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.outbound.address_rules import DENIED, Address, is_public

# Each line has a range, what lies before and after it (+ public, - special, . nothing), its first
# address, one in its middle, and its last.
REFUSED = [
    line.split()
    for line in """
0.0.0.0/8         .+  0.0.0.0        0.128.0.5         0.255.255.255
10.0.0.0/8        ++  10.0.0.0       10.128.0.5        10.255.255.255
100.64.0.0/10     ++  100.64.0.0     100.96.0.5        100.127.255.255
127.0.0.0/8       ++  127.0.0.0      127.128.0.5       127.255.255.255
168.63.129.16/32  ++  168.63.129.16  168.63.129.16     168.63.129.16
169.254.0.0/16    ++  169.254.0.0    169.254.128.5     169.254.255.255
172.16.0.0/12     ++  172.16.0.0     172.24.0.5        172.31.255.255
192.0.0.0/24      ++  192.0.0.0      192.0.0.133       192.0.0.255
192.0.2.0/24      ++  192.0.2.0      192.0.2.133       192.0.2.255
192.88.99.0/24    ++  192.88.99.0    192.88.99.133     192.88.99.255
192.168.0.0/16    ++  192.168.0.0    192.168.128.5     192.168.255.255
198.18.0.0/15     ++  198.18.0.0     198.19.0.5        198.19.255.255
198.51.100.0/24   ++  198.51.100.0   198.51.100.133    198.51.100.255
203.0.113.0/24    ++  203.0.113.0    203.0.113.133     203.0.113.255
224.0.0.0/4       +-  224.0.0.0      232.0.0.5         239.255.255.255
240.0.0.0/4       -.  240.0.0.0      248.0.0.5         255.255.255.255
::/96             .-  ::             ::8000:5          ::ffff:ffff
::ffff:0:0/96     --  ::ffff:0:0     ::ffff:8000:5     ::ffff:ffff:ffff
::ffff:0:0:0/96   --  ::ffff:0:0:0   ::ffff:0:8000:5   ::ffff:0:ffff:ffff
64:ff9b::/32      --  64:ff9b::      64:ff9b:8000::5   64:ff9b:ffff:ffff:ffff:ffff:ffff:ffff
100::/64          --  100::          100::8000:0:0:5   100::ffff:ffff:ffff:ffff
2001::/23         ++  2001::         2001:100::5       2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff
2001:db8::/32     ++  2001:db8::     2001:db8:8000::5  2001:db8:ffff:ffff:ffff:ffff:ffff:ffff
2002::/16         ++  2002::         2002:8000::5      2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff
3ffe::/16         +-  3ffe::         3ffe:8000::5      3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff
3fff::/20         -+  3fff::         3fff:800::5       3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff
5f00::/16         --  5f00::         5f00:8000::5      5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff
fc00::/7          --  fc00::         fd00::5           fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff
fe80::/10         --  fe80::         fea0::5           febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff
fec0::/10         --  fec0::         fee0::5           feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff
ff00::/8          -.  ff00::         ff80::5           ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff
""".strip().splitlines()
]

# Addresses that attackers aim at; those marked * pass `ipaddress.is_global` on Python 3.11.
TARGETS = [
    "127.0.0.1",
    "169.254.169.254",  # Metadata of most clouds.
    "100.100.100.200",  # Alibaba's metadata.
    "168.63.129.16",  # * Azure's host agent.
    "192.0.0.192",  # * Oracle's metadata.
    "fd00:ec2::254",  # Amazon's metadata over IPv6.
    "::1",
    "::127.0.0.1",  # * IPv4-compatible loopback.
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1",  # * IPv4-translated loopback.
    "64:ff9b::a9fe:a9fe",  # * Metadata through NAT64.
    "64:ff9b:1::7f00:1",  # * Loopback through a local NAT64.
    "2002:7f00:1::",  # * Loopback through 6to4.
    "2001:0:7f00:1::",  # Teredo.
    "224.0.0.1",  # * Multicast.
    "ff02::1",  # * Multicast.
    "fec0::1",  # * Site-local.
    "fe80::1%2",  # Link-local with a zone.
    "1000::1",  # Nobody has this one.
    "4000::1",
    "8000::1",
]

PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "168.63.129.15",
    "168.63.129.17",
    "169.253.255.255",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2001:200::1",
    "2001:4860:4860::8888",
    "2003::1",
    "2606:4700:4700::1111",
    "2a00:1450::1",
    "3ffd:ffff::1",
]

ALL_V4 = st.integers(0, 2**32 - 1).map(IPv4Address)
ALL_V6 = st.integers(0, 2**128 - 1).map(IPv6Address)


@pytest.mark.parametrize(("network", "beside", "first", "middle", "last"), REFUSED)
def test_a_special_range_is_refused_from_end_to_end_and_no_further(
    network: str, beside: str, first: str, middle: str, last: str
) -> None:
    low, high = ip_address(first), ip_address(last)
    assert (ip_network(network)[0], ip_network(network)[-1]) == (low, high)
    assert not any(is_public(address) for address in (low, ip_address(middle), high))
    assert beside[0] == "." or is_public(low - 1) == (beside[0] == "+")
    assert beside[1] == "." or is_public(high + 1) == (beside[1] == "+")


def test_every_range_of_the_table_has_its_line_here() -> None:
    assert [str(network) for network in DENIED] == [line[0] for line in REFUSED]


@pytest.mark.parametrize("address", TARGETS)
def test_what_attackers_aim_at_is_refused(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_the_neighbours_of_special_ranges_are_public(address: str) -> None:
    assert is_public(ip_address(address))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(ALL_V4, ALL_V6))
def test_nothing_is_public_that_python_calls_special(address: Address) -> None:
    assert address.is_global or not is_public(address)


def test_an_allowed_network_wins_over_the_table() -> None:
    allow = [ip_network("10.1.0.0/16"), ip_network("fd00::/8")]

    assert is_public(ip_address("10.1.2.3"), allow)
    assert is_public(ip_address("fd12::1"), allow)
    assert not is_public(ip_address("10.2.0.1"), allow)
    assert is_public(ip_address("1.1.1.1"), allow)


def test_allowing_an_ipv4_network_does_not_allow_it_in_ipv6_clothes() -> None:
    allow = [ip_network("127.0.0.0/8")]

    assert not is_public(ip_address("::ffff:127.0.0.1"), allow)
    assert not is_public(ip_address("64:ff9b::7f00:1"), allow)
