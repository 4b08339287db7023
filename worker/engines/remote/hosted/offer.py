"""What of a provider the operator offers: the model of an entry, its price, the key, the consent.

Read where a worker starts, so that what is missing is said at once; it imports no numpy.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl

from pydantic import SecretStr

from shared.engines.entries import EngineEntry, EngineKind
from shared.errors import InvalidRequest
from shared.settings import MOST_USD, Settings
from worker.engines.remote.fal.models import MODELS as FAL_MODELS
from worker.engines.remote.hosted.model import HostedModel
from worker.engines.remote.runway.models import MODELS as RUNWAY_MODELS

PRICE: Final = "usd_per_second"
LONGEST_KEY: Final = 4096

CATALOGUES: Final[Mapping[EngineKind, Mapping[str, HostedModel]]] = {
    EngineKind.RUNWAY: RUNWAY_MODELS,
    EngineKind.FAL: FAL_MODELS,
}


@dataclass(frozen=True)
class HostedOffer:
    """A provider's model as the operator wrote it into ENGINES, with the price to count by."""

    name: str
    model: str
    usd_per_second: float


def read_offer(entry: EngineEntry) -> HostedOffer:
    """Return what an entry like `gen4=runway:gen4_turbo?usd_per_second=0.05` says.

    Raises:
        InvalidRequest: there is no such model, or no price; the message says what would be right.
    """
    model, _, query = entry.target.partition("?")
    known = CATALOGUES[entry.kind]
    if model not in known:
        raise _wrong(entry, f"which is no model of it; known are {', '.join(known)}")
    given = parse_qsl(query, keep_blank_values=True)
    if [name for name, _ in given] != [PRICE]:
        raise _wrong(
            entry,
            f"which does not say what a second of clip costs: write {PRICE}, once and nothing"
            f" else,"
            f" like {entry.name}={entry.kind}:{model}?{PRICE}=0.05, by the provider's price list",
        )
    try:
        price = float(given[0][1])
    except ValueError:
        price = -1.0
    if not 0 <= price <= MOST_USD:
        raise _wrong(entry, f"whose {PRICE} is not a number of dollars from 0 on")
    return HostedOffer(entry.name, model, price)


def check_offer(entry: EngineEntry, settings: Settings) -> tuple[HostedOffer, str]:
    """Return what an entry offers and the key for it, or say what is missing.

    Raises:
        InvalidRequest: the model, the price, the key, or the word that pictures may be sent.
    """
    offer, key = read_offer(entry), read_key(entry.kind, settings)
    if entry.kind not in settings.send_images_to_providers:
        raise _wrong(
            entry,
            "to which each job's image and prompt would be sent: allow that with"
            f" STILLREEL_SEND_IMAGES_TO={entry.kind}, or leave the engine out",
        )
    return offer, key


def read_key(kind: EngineKind, settings: Settings) -> str:
    """Return the operator's key for a provider, from its setting or the file that is named.

    Raises:
        InvalidRequest: there is none, or it is none; the message never shows it.
    """
    variable = f"{kind.upper()}_KEY"
    given: SecretStr | None = getattr(settings, variable.lower())
    path: Path | None = getattr(settings, f"{variable.lower()}_file")
    if (given is None) == (path is None):
        both = "both name a key" if given else "name none"
        raise InvalidRequest(
            f"STILLREEL_ENGINES names {kind}, and STILLREEL_{variable} and"
            f" STILLREEL_{variable}_FILE {both}; set one of the two",
            param=variable,
        )
    try:
        key = given.get_secret_value() if given else _first_line(path)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(
            f"STILLREEL_{variable}_FILE could not be read ({type(error).__name__}); the file must"
            " hold only the key",
            param=f"{variable}_FILE",
        ) from None
    if not (key.isascii() and key.isprintable() and len(key) >= 8 and " " not in key):
        raise InvalidRequest(
            f"STILLREEL_{variable} is no key: it takes 8 visible ASCII characters or more",
            param=variable,
        )
    return key


def _first_line(path: Path | None) -> str:
    assert path is not None
    with path.open("rb") as file:
        return file.read(LONGEST_KEY).decode().strip()


def _wrong(entry: EngineEntry, reason: str) -> InvalidRequest:
    return InvalidRequest(
        f"STILLREEL_ENGINES names {entry.name}={entry.kind}:{entry.target}, {reason}",
        param="ENGINES",
    )
