"""SeaweedFS' `security.toml`: its inner ports accept only peers that show our certificate."""

import hashlib
import json
from collections.abc import Iterator
from typing import Final

GRPC: Final = (
    *("master", "volume", "filer", "s3", "admin", "worker", "client"),
    *("msg_broker", "msg_agent", "mq"),
)
HTTPS: Final = ("master", "volume", "filer", "admin", "client")
SIGNED: Final = ("jwt.signing", "jwt.filer_signing", "jwt.filer_signing.read")
"""Not `jwt.signing.read`: SeaweedFS' filer does not support it."""


def security_toml(*, authority: str, pair: str, signing_key: str) -> str:
    """Return the file's text: mutual TLS on every inner port, HTTP and gRPC, and JWT on top.

    Its paths are files of `shared.certificates.Certificates`. SeaweedFS first looks for it in its
    working folder; if it finds none, every port is open to everybody.

    Args:
        authority, pair: the paths; relative ones begin at the working folder.
        signing_key: any secret of this installation.
    """
    return "\n".join(_lines(authority, pair, signing_key)) + "\n"


def _lines(authority: str, pair: str, signing_key: str) -> Iterator[str]:
    for section in SIGNED:
        # A token for one part is not valid for another.
        key = hashlib.sha256(f"{section}:{signing_key}".encode()).hexdigest()
        yield from (f"[{section}]", f'key = "{key}"')
    # A JSON string is a TOML string, whatever characters the path has.
    shown, ca = [f"{name} = {json.dumps(pair)}" for name in ("cert", "key")], json.dumps(authority)
    yield from ("[grpc]", f"ca = {ca}")
    for server in GRPC:
        yield from (f"[grpc.{server}]", *shown)
    for server in HTTPS:
        yield from (f"[https.{server}]", *shown, f"ca = {ca}")
        if server == "client":
            yield "enabled = true"
