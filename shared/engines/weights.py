"""The state of an engine's weights at a worker, or at the best of several workers."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError


class WeightsState(StrEnum):
    READY = "ready"
    DOWNLOADING = "downloading"
    MISSING = "missing"


class WeightsView(BaseModel):
    """The bytes are of the download; None before their number is known."""

    model_config = ConfigDict(frozen=True)

    state: WeightsState
    bytes_done: int | None = None
    bytes_total: int | None = None
    message: str | None = None

    @property
    def fraction(self) -> float:
        return (self.bytes_done or 0) / self.bytes_total if self.bytes_total else 0.0


_ORDER: Final = (WeightsState.READY, WeightsState.DOWNLOADING, WeightsState.MISSING)


def best_of(told: Iterable[Mapping[str, Any] | None]) -> WeightsView | None:
    """Return the view of the worker that is nearest to rendering; None if no worker reports one.

    A worker of another version may report a state that is unknown here; it is skipped.
    """
    views = []
    for each in told:
        try:
            views.append(WeightsView.model_validate(each))
        except ValidationError:
            continue
    views.sort(key=lambda view: (_ORDER.index(view.state), -view.fraction))
    return views[0] if views else None
