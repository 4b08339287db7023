"""Hostile spellings of addresses that no request of ours may reach, and the names behind them."""

import itertools
import re
import socket
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final

TARGETS: Final = (
    "127.0.0.1",
    "127.1.2.3",
    "127.255.255.254",
    "0.0.0.0",  # noqa: S104 (Linux connects it to itself)
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",  # Metadata of most clouds.
    "100.64.0.1",
    "100.100.100.200",  # Alibaba's metadata.
    "168.63.129.16",  # Azure's host agent.
    "192.0.0.192",  # Oracle's metadata.
    "198.18.0.1",
    "192.0.2.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
)
TARGETS_V6: Final = (
    "::1",
    "::",
    "fd00:ec2::254",  # Amazon's metadata.
    "fd20:ce::254",  # Google's metadata.
    "fc00::1",
    "fe80::1",
    "fe80::a9fe:a9fe",
    "fec0::1",
    "ff02::1",
    "ff05::1:3",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002::1",
    "3ffe::1",
    "3fff::1",
    "5f00::1",
    "64:ff9b::1",
    "::2",
    "4000::1",
)

NAMES: Final[dict[str, Sequence[str]]] = {
    "localhost": ("127.0.0.1", "::1"),
    "localhost.localdomain": ("127.0.0.1",),
    "ip6-localhost": ("::1",),
    "metadata": ("169.254.169.254",),
    "metadata.google.internal": ("169.254.169.254",),
    "metadata.tencentyun.com": ("169.254.0.23",),
    "instance-data.ec2.internal": ("169.254.169.254",),
    "postgres": ("172.18.0.2",),
    "valkey": ("172.18.0.3",),
    "s3": ("172.18.0.4",),
    "keeper": ("172.18.0.5",),
    "host.docker.internal": ("192.168.65.254",),
    "gateway.docker.internal": ("192.168.65.1",),
    "kubernetes.default.svc.cluster.local": ("10.96.0.1",),
    "router.lan": ("192.168.1.1",),
    "spoofed.burpcollaborator.net": ("127.0.0.1",),
    "localtest.me": ("127.0.0.1", "::1"),
    "v6only.example.org": ("fd12:3456::1",),
    "mapped.example.org": ("::ffff:10.0.0.1",),
    "nat64.example.org": ("64:ff9b::a9fe:a9fe",),
}
PUBLIC: Final = "203.0.114.7"
"""A public address without a service of ours: the witness would see a request to it."""

_DOTTED: Final = re.compile(r"(?:.*\.)?(\d+\.\d+\.\d+\.\d+)\.nip\.io")
_DASHED: Final = re.compile(r"(?:.*[.-])?(\d+-\d+-\d+-\d+)\.sslip\.io")
_HEX: Final = re.compile(r"(?:.*\.)?([0-9a-f]{8})\.nip\.io")
_MIXED: Final = re.compile(r"mixed-(first|last)-(\d+)\.example\.org")
_REBINDING: Final = re.compile(r"rebinding-(\d+)\.example\.org")


@dataclass
class Resolver:
    """`socket.getaddrinfo` without a network: the system reads numbers, this file has names.

    `asked` counts the lookups of each name.
    """

    asked: Counter[str] = field(default_factory=Counter)
    _system: Any = socket.getaddrinfo

    def __call__(
        self,
        host: Any,
        port: Any,
        family: int = 0,
        type: int = 0,  # The library's own name.
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        numeric = flags | socket.AI_NUMERICHOST
        try:
            return list(self._system(host, port, family, type, proto, numeric))
        except socket.gaierror:
            name = str(host).rstrip(".").lower()
        answers = self._addresses(name)
        if not answers:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            answer
            for address in answers
            for answer in self._system(address, port, family, type, proto, numeric)
        ]

    def _addresses(self, name: str) -> Sequence[str]:
        self.asked[name] += 1
        if name in NAMES:
            return NAMES[name]
        if match := _MIXED.fullmatch(name):
            both = [TARGETS[int(match[2])], PUBLIC]
            return both if match[1] == "first" else both[::-1]
        if match := _REBINDING.fullmatch(name):
            return [PUBLIC] if self.asked[name] == 1 else [TARGETS[int(match[1])]]
        if match := _DOTTED.fullmatch(name):
            return [match[1]]
        if match := _DASHED.fullmatch(name):
            return [match[1].replace("-", ".")]
        if match := _HEX.fullmatch(name):
            return [str(IPv4Address(int(match[1], 16)))]
        return []


def by_address(port: int) -> Iterator[tuple[str, str]]:
    """Yield kinds and URLs whose host is read as a bad address, by one parser or the system."""
    for number, text in enumerate(TARGETS):
        for kind, host in itertools.chain(
            _numbers(IPv4Address(text)), _embedded(IPv4Address(text)), _names(number, text)
        ):
            yield kind, f"http://{host}:{port}/a.png"
    for text in TARGETS_V6:
        address = ip_address(text)
        for kind, host in (
            ("v6", text),
            ("v6 exploded", address.exploded),
            ("v6 upper case", address.exploded.upper()),
        ):
            yield kind, f"http://[{host}]:{port}/a.png"
    for name in NAMES:
        yield "inner name", f"http://{name}:{port}/a.png"
        yield "inner name with a dot", f"HTTP://{name.upper()}.:{port}/a.png"


def by_trick(port: int) -> Iterator[tuple[str, str]]:
    """Yield kinds and URLs that two parsers may read in two ways, or that are no web address."""
    for text in TARGETS:
        for kind, authority in _tricks(text):
            yield kind, f"http://{authority}:{port}/a.png"
        for character in "\t\n\r\0 \x0b\x7f\u00a0\u200b\u2028":
            yield "control in host", f"http://{text[:3]}{character}{text[3:]}:{port}/"
        yield "port wraps", f"http://{text}:{65536 + port}/"
        yield "port with sign", f"http://{text}:+{port}/"
        yield "port negative", f"http://{text}:-{port}/"
        yield "two ports", f"http://{text}:{port}:80/"
        yield "userinfo by port", f"http://example.org:{port}@{text}:{port}/"
        for scheme in SCHEMES:
            yield "scheme", f"{scheme}://{text}:{port}/_x"
        yield "no scheme", f"//{text}:{port}/"
        yield "one slash", f"http:/{text}:{port}/"
        yield "no slash", f"http:{text}:{port}/"
        yield "three slashes", f"http:///{text}:{port}/"
        yield "backslashes", f"http:\\\\{text}:{port}\\a"
        yield "line before", f"\nhttp://{text}:{port}/"
        yield "line in scheme", f"ht\ntp://{text}:{port}/"
    yield from (("no host", url) for url in NO_HOST)


SCHEMES: Final = ("file", "ftp", "gopher", "dict", "ldap", "ws", "jar:http", "unix", "netdoc")
NO_HOST: Final = (
    "data:image/png;base64,iVBORw0KGgo=",
    "file:///etc/passwd",
    "file:/etc/passwd",
    "javascript:alert(1)",
    "unix:/var/run/docker.sock",
    "about:blank",
    "http://",
    "http://:5432/",
    "http://[]/",
    "http://[::/",
    "http://::1/",
    "http://[::1/",
    "http://[::1]x/",
    "http://[127.0.0.1]/",
    "http://[v1.x]/",
    "/etc/passwd",
    "",
    " ",
    "?",
    "#",
)


def _numbers(address: IPv4Address) -> Iterator[tuple[str, str]]:
    a, b, c, d = address.packed
    whole = int(address)
    yield "dotted", str(address)
    yield "decimal", str(whole)
    yield "hexadecimal", f"{whole:#x}"
    yield "hexadecimal upper case", f"0X{whole:X}"
    yield "octal", f"0{whole:o}"
    yield "dotted hexadecimal", f"{a:#x}.{b:#x}.{c:#x}.{d:#x}"
    yield "mixed bases", f"{a:#x}.0{b:o}.{c}.{d:#x}"
    yield "short of two", f"{a}.{whole & 0xFFFFFF}"
    yield "short of three", f"{a}.{b}.{whole & 0xFFFF}"
    yield "short in bases", f"0{a:o}.{whole & 0xFFFFFF:#x}"
    yield "ideographic stops", f"{a}。{b}。{c}。{d}"
    yield "half-width stops", f"{a}｡{b}｡{c}｡{d}"


def _embedded(address: IPv4Address) -> Iterator[tuple[str, str]]:
    high, low = struct.unpack("!HH", address.packed)
    inner = f"{high:x}:{low:x}"
    hidden = IPv6Address(
        (0x20010000 << 96) | (0x41000000 << 64) | (int(address) ^ 0xFFFFFFFF)
    )  # Teredo keeps the client's address with every bit turned.
    yield "mapped", f"[::ffff:{address}]"
    yield "mapped in hexadecimal", f"[::FFFF:{inner}]"
    yield "mapped exploded", f"[0000:0000:0000:0000:0000:ffff:{address}]"
    yield "compatible", f"[::{address}]"
    yield "translated", f"[::ffff:0:{address}]"
    yield "NAT64", f"[64:ff9b::{address}]"
    yield "local NAT64", f"[64:ff9b:1::{inner}]"
    yield "6to4", f"[2002:{inner}::1]"
    yield "Teredo", f"[{hidden}]"
    yield "Teredo server", f"[2001:0:{inner}::1]"
    yield "ISATAP", f"[fe80::5efe:{address}]"
    yield "ISATAP in a private net", f"[fd00::200:5efe:{address}]"


def _names(number: int, text: str) -> Iterator[tuple[str, str]]:
    yield "name of dots", f"{text}.nip.io"
    yield "name below a name", f"example.org.{text}.nip.io"
    yield "name of dashes", f"www-{text.replace('.', '-')}.sslip.io"
    yield "name of hexadecimal", f"{int(IPv4Address(text)):08x}.nip.io"
    yield "answers with the bad first", f"mixed-first-{number}.example.org"
    yield "answers with the bad last", f"mixed-last-{number}.example.org"


def _tricks(text: str) -> Iterator[tuple[str, str]]:
    wide = text.translate({ord("0") + n: ord("０") + n for n in range(10)})
    circled = text.translate({ord("1") + n: ord("①") + n for n in range(9)})
    encoded = "".join(f"%{ord(character):02x}" for character in text)
    a, b, c, d = IPv4Address(text).packed
    yield "dotted octal", f"0{a:o}.0{b:o}.0{c:o}.0{d:o}"
    yield "dotted octal padded", f"00000{a:o}.00000{b:o}.00000{c:o}.00000{d:o}"
    yield "dotted decimal padded", f"{a:03}.{b:03}.{c:03}.{d:04}"
    yield "trailing dot", f"{text}."
    yield "full-width digits", wide
    yield "full-width all", wide.replace(".", "．")
    yield "circled digits", circled
    yield "soft hyphen", f"{text[:2]}\u00ad{text[2:]}"
    yield "percent encoded", encoded
    yield "encoded twice", encoded.replace("%", "%25")
    yield "encoded dots", text.replace(".", "%2e")
    yield "encoded end", f"{text}%00.example.org"
    yield "overflowing", str(int(IPv4Address(text)) + 2**32)
    yield "out of range", ".".join(str(int(part) + 256) for part in text.split("."))
    yield "user", f"user@{text}"
    yield "user and word", f"user:word@{text}"
    yield "name as user", f"example.org@{text}"
    yield "two users", f"a@example.org@{text}"
    yield "backslash user", f"example.org\\@{text}"
    yield "backslash end", f"{text}\\.example.org"
    yield "fragment user", f"example.org#@{text}"
    yield "query user", f"example.org?@{text}"
    yield "slash user", f"example.org%2f@{text}"
    yield "semicolon", f"example.org;{text}"
    yield "comma", f"{text},example.org"
    yield "zone", f"[::ffff:{text}%25lo]"
    yield "zone bare", f"[::ffff:{text}%lo]"
    yield "brackets", f"[{text}]"
    yield "punycode", f"xn--{text}"
    yield "minus", f"-{text}"
    yield "tail", f"{text} example.org"
