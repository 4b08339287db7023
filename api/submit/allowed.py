"""The model of a caller's request, among those that its key may use."""

from api.auth.caller import Caller
from shared.engines.registry import EngineRegistry, OfferedEngine
from shared.errors import UnknownModel
from shared.errors.access import ModelNotAllowed
from shared.excerpt import excerpt


def choose_model(registry: EngineRegistry, caller: Caller, name: str | None) -> OfferedEngine:
    """Return the model of that name, or the best one that the caller may use.

    Raises:
        Starting, UnknownModel: as `EngineRegistry.choose`.
        ModelNotAllowed: the caller's key is limited to others.
    """
    if caller.models is None:
        return registry.choose(name)
    allowed = ", ".join(sorted(caller.models))
    if name is not None and name not in caller.models:
        registry.choose(name)
        raise ModelNotAllowed(
            f"your key may not use {excerpt(name)}; it may use {allowed}", param="model"
        )
    for offer in registry.offers():
        if offer.spec.name == name or (name is None and offer.spec.name in caller.models):
            return offer
    registry.choose(name)
    raise UnknownModel(f"no worker serves a model of your key; it may use {allowed}")


def may_use(caller: Caller, model: str) -> bool:
    return caller.models is None or model in caller.models
