"""The address of a back end in the ENGINES setting: its host, and the model that it serves."""

from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import parse_qsl, urlsplit

from shared.engines.entries import EngineEntry
from shared.engines.spec import Defaults, Resolution
from shared.errors import InvalidRequest
from shared.outbound.errors import OutboundRefused
from shared.outbound.pinned_connection import HostPort
from shared.outbound.url import Target

NUMBERS: Final = ("num_frames", "fps", "num_inference_steps", "guidance_scale")
KNOWN: Final = ("model", "resolution", *NUMBERS)


@dataclass(frozen=True)
class Address:
    """`base` ends before `/videos`; `server` is the one host and port that is asked."""

    base: str
    server: HostPort
    model: str
    defaults: Defaults

    @classmethod
    def parse(cls, entry: EngineEntry, written: str) -> Self:
        """Read one target of an entry.

        Raises:
            InvalidRequest: a part of it is unknown or impossible; the message names it.
        """
        parts = urlsplit(written)
        asked = dict(parse_qsl(parts.query))
        if unknown := [name for name in asked if name not in KNOWN]:
            raise _refused(entry, f"{unknown[0]} is not known; its query takes {', '.join(KNOWN)}")
        base = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        try:
            target = Target.parse(base)
        except OutboundRefused as error:
            raise _refused(entry, error.message) from error
        server = (target.host, target.port)
        return cls(base, server, asked["model"], _defaults(entry, asked))


def addresses(entry: EngineEntry) -> tuple[Address, ...]:
    """Return the addresses of an entry's back ends.

    Raises:
        InvalidRequest: as `Address.parse`; or two of them do not serve the same model.
    """
    found = tuple(Address.parse(entry, target) for target in entry.targets)
    if len({(each.model, each.defaults) for each in found}) > 1:
        raise _refused(entry, "its back ends differ after the ?; one name is one model")
    if len({each.server for each in found}) < len(found):
        raise _refused(entry, "it names one host and port twice")
    return found


_USUAL: Final = Defaults(
    resolution=Resolution.P512,
    num_frames=81,
    fps=16,
    num_inference_steps=40,
    guidance_scale=5.0,
)


def _defaults(entry: EngineEntry, asked: dict[str, str]) -> Defaults:
    given: dict[str, object] = {
        name: float(asked[name]) if _is_number(asked[name]) else asked[name]
        for name in NUMBERS
        if name in asked
    }
    if "resolution" in asked:
        given["resolution"] = asked["resolution"]
    try:
        return Defaults.model_validate({**_USUAL.model_dump(), **given})
    except ValueError as error:
        raise _refused(
            entry,
            "its query has impossible values; write it like"
            " ?model=wan&num_frames=81&fps=16&num_inference_steps=40&resolution=512p",
        ) from error


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdecimal()


def _refused(entry: EngineEntry, reason: str) -> InvalidRequest:
    return InvalidRequest(f"STILLREEL_ENGINES names {entry.name}, and {reason}", param="ENGINES")
