"""The operator's offer of a hosted model: the model of an entry, its price, the key, the consent.

It is read when a worker starts, so that a missing setting is reported at once; it imports no
numpy.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

from shared.engines.entries import EngineEntry, EngineKind
from shared.errors import InvalidRequest
from shared.settings import MOST_USD, Settings
from worker.engines.remote.fal.models import MODELS as FAL_MODELS
from worker.engines.remote.hosted.key import ProviderKey, read_key
from worker.engines.remote.hosted.model import HostedModel
from worker.engines.remote.runway.models import MODELS as RUNWAY_MODELS

PRICE: Final = "usd_per_second"

CATALOGUES: Final[Mapping[EngineKind, Mapping[str, HostedModel]]] = {
    EngineKind.RUNWAY: RUNWAY_MODELS,
    EngineKind.FAL: FAL_MODELS,
}


@dataclass(frozen=True)
class HostedOffer:
    """A provider's model as the operator wrote it into ENGINES, with its price."""

    name: str
    model: str
    usd_per_second: float


def read_offer(entry: EngineEntry) -> HostedOffer:
    """Return the model and price of an entry: `gen4=runway:gen4_turbo?usd_per_second=0.05`.

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


def check_offer(entry: EngineEntry, settings: Settings) -> tuple[HostedOffer, ProviderKey]:
    """Return an entry's offer and its key, or raise what is missing.

    Raises:
        InvalidRequest: the model, the price, the key, or the permission to send images is missing.
    """
    offer = read_offer(entry)
    key = ProviderKey(read_key(entry.kind, settings), entry.kind, settings)
    if entry.kind not in settings.send_images_to_providers:
        raise _wrong(
            entry,
            "to which each job's image and prompt would be sent: allow that with"
            f" STILLREEL_SEND_IMAGES_TO={entry.kind}, or leave the engine out",
        )
    return offer, key


def _wrong(entry: EngineEntry, reason: str) -> InvalidRequest:
    return InvalidRequest(
        f"STILLREEL_ENGINES names {entry.name}={entry.kind}:{entry.target}, {reason}",
        param="ENGINES",
    )
