"""The store's certificates are drawn once, kept while whole, renewed in time, and only ours."""

import errno
import ssl
import stat
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from local.certificates import AUTHORITY, AUTHORITY_KEY, FILES, PAIR, keep_certificates
from local.servers.seaweed import seaweed
from local.servers.services import PORTS
from local.state import State
from shared.certificates import AUTHORITY_LIFE, LIFE, Certificates

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    keep_certificates(tmp_path / "tls")
    return tmp_path / "tls"


def texts(folder: Path) -> dict[str, str]:
    return {name: (folder / name).read_text() for name in FILES}


def is_usable(folder: Path) -> bool:
    """Return whether a server and a client with these files accept each other."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=folder / AUTHORITY)
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.create_default_context(cafile=folder / AUTHORITY)
    for context in (server, client):
        context.load_cert_chain(folder / PAIR)
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname="127.0.0.1"),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    done = 0
    for _ in range(8):
        for end in ends:
            try:
                end.do_handshake()
                done += 1
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError:
                return False
    return done > 1


def test_nobody_but_the_owner_may_read_what_was_drawn(folder: Path) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())}
    assert modes == {"tls": 0o700, AUTHORITY: 0o600, AUTHORITY_KEY: 0o600, PAIR: 0o600}
    assert is_usable(folder)


def test_a_second_start_keeps_what_the_first_drew(folder: Path) -> None:
    before = texts(folder)
    keep_certificates(folder)
    assert texts(folder) == before


def test_what_is_whole_is_not_written_again_be_the_disk_full_or_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    state = State(ports=dict.fromkeys(PORTS, 1))
    prepare = seaweed(folder.parent, state).prepare
    assert prepare is not None
    prepare()
    assert stat.S_IMODE((folder.parent / "s3" / "security.toml").stat().st_mode) == 0o600
    monkeypatch.setattr("local.private_file.write_private", full)
    prepare()
    (folder / PAIR).unlink()
    with pytest.raises(OSError, match="No space left"):
        prepare()


def write_old(folder: Path, drawn_at: datetime) -> None:
    old = Certificates.draw(drawn_at)
    for name, text in zip(FILES, (old.authority, old.authority_key, old.pair), strict=True):
        (folder / name).write_text(text)


def cut(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text((folder / name).read_text()[:100])


def gone(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def mixed(name: str) -> Callable[[Path], object]:
    """Return a function that leaves the folder as a crash between two writes would."""

    def mix(folder: Path) -> None:
        kept = (folder / name).read_text()
        write_old(folder, NOW)
        (folder / name).write_text(kept)

    return mix


DAMAGE: dict[str, Callable[[Path], object]] = {
    **{f"{name} is half-written": cut(name) for name in FILES},
    **{f"{name} is missing": gone(name) for name in FILES},
    **{f"{name} is of another set": mixed(name) for name in FILES},
    "binary rubbish": lambda folder: (folder / PAIR).write_bytes(bytes(range(256))),
    "nothing in it": lambda folder: (folder / PAIR).write_text(""),
    "another's eyes": lambda folder: (folder / PAIR).chmod(0o640),
    "the certificate is over": lambda folder: write_old(folder, NOW - LIFE - DAY),
    "the certificate's second half": lambda folder: write_old(folder, NOW - LIFE / 2 - DAY),
    "the authority is over": lambda folder: write_old(folder, NOW - AUTHORITY_LIFE - DAY),
    "a clock that was fast": lambda folder: write_old(folder, NOW + timedelta(days=9)),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_what_is_damaged_over_or_read_by_others_is_drawn_anew(
    folder: Path, damage: Callable[[Path], object]
) -> None:
    first = texts(folder)
    damage(folder)
    keep_certificates(folder)
    assert is_usable(folder)
    assert texts(folder)[PAIR] != first[PAIR]
    assert {stat.S_IMODE((folder / name).stat().st_mode) for name in FILES} == {0o600}
    pair = x509.load_pem_x509_certificate((folder / PAIR).read_bytes())
    assert pair.not_valid_after_utc > NOW + LIFE - DAY


def test_servers_that_run_keep_their_authority_and_take_a_new_certificate(folder: Path) -> None:
    drawn = Certificates.draw(NOW - LIFE / 2 - DAY)
    renewed = drawn.renewed(NOW, keep_authority=True)
    assert replace(renewed, pair=drawn.pair) == drawn
    assert renewed.pair != drawn.pair
    for name, text in zip(
        FILES, (drawn.authority, drawn.authority_key, renewed.pair), strict=True
    ):
        (folder / name).write_text(text)
    assert is_usable(folder)
    over = Certificates.draw(NOW - AUTHORITY_LIFE)
    assert over.renewed(NOW, keep_authority=True) == over


def test_a_key_is_not_shown() -> None:
    drawn = Certificates.draw(NOW)
    assert "KEY" not in repr(drawn)
