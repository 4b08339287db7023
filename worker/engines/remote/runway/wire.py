"""The requests to Runway's API, and the meaning of its answers: pure functions."""

import re
from collections.abc import Mapping
from typing import Any, Final

from shared.engines.parameters import RenderParameters
from worker.engines.remote.hosted.model import HostedModel, cut_prompt
from worker.engines.remote.hosted.seen import Phase, Seen
from worker.engines.remote.runway.models import SILENT

VERSION: Final = "2024-11-06"
USD_PER_CREDIT: Final = 0.01
MOST_CREDITS: Final = 100_000_000
MAX_URI_CHARS: Final = 5 * 1000 * 1000
"""The limit of a data URI: 5 MB, read as the smaller of its two possible meanings."""

TASK_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,100}")

_PHASES: Final[Mapping[str, Phase]] = {
    "PENDING": Phase.WAITING,
    "THROTTLED": Phase.WAITING,
    "RUNNING": Phase.RUNNING,
    "SUCCEEDED": Phase.SUCCEEDED,
    "FAILED": Phase.FAILED,
    "CANCELLED": Phase.CANCELED,
    "CANCELED": Phase.CANCELED,
}


def create_body(
    model: HostedModel, asked: RenderParameters, *, first: str, last: str | None = None
) -> dict[str, Any]:
    """Return the body of a create; `first` and `last` are images as data URIs."""
    width, height = model.size_near(asked.width, asked.height)
    prompt = cut_prompt(asked.prompt, model.max_prompt)
    body: dict[str, Any] = {
        "model": model.name,
        "promptImage": first,
        "ratio": f"{width}:{height}",
        "duration": model.seconds_near(asked.seconds),
    }
    if last is not None:
        body["promptImage"] = [
            {"uri": first, "position": "first"},
            {"uri": last, "position": "last"},
        ]
    if prompt:
        body["promptText"] = prompt
    if model.takes_seed:
        body["seed"] = asked.seed
    if model.takes_negative_prompt and asked.negative_prompt:
        body["negativePrompt"] = asked.negative_prompt
    if model.name in SILENT:
        body["audio"] = False
    return body


def read_id(body: Mapping[str, Any]) -> str:
    """Return the id of a new task.

    Raises:
        KeyError, TypeError, ValueError: the answer has none.
    """
    found = body["id"]
    if not TASK_ID.fullmatch(found):
        raise ValueError("the id is none")
    return str(found)


def read_task(body: Mapping[str, Any]) -> Seen:
    """Return the meaning of an answer about a task.

    Raises:
        KeyError, TypeError, ValueError: it is not a task.
    """
    phase = _PHASES[body["status"]]
    return Seen(
        phase=phase,
        progress=_fraction(body.get("progress")) if phase is Phase.RUNNING else None,
        url=str(body["output"][0]) if phase is Phase.SUCCEEDED else None,
        failure=str(body.get("failureCode") or "") if phase is Phase.FAILED else None,
        reason=str(body.get("failure") or "") if phase is Phase.FAILED else None,
        cost_usd=cost_usd(body.get("cost")),
    )


def _fraction(told: Any) -> float | None:
    return float(told) if isinstance(told, int | float) and 0 <= told <= 1 else None


def cost_usd(told: Any) -> float | None:
    """Return credits as dollars, None if an answer has none."""
    credits = told.get("credits") if isinstance(told, Mapping) else None
    if isinstance(credits, bool) or not isinstance(credits, int | float):
        return None
    if not 0 <= credits <= MOST_CREDITS:  # NaN passes neither comparison.
        return None
    return round(credits * USD_PER_CREDIT, 6)


def is_moderation(failure: str) -> bool:
    """Say whether a code means moderation, like `INPUT_PREPROCESSING.SAFETY.TEXT`.

    `SAFETY.INPUT.TEXT` is another.
    """
    return "SAFETY" in failure.split(".")
