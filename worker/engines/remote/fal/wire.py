"""The requests to fal's queue, and the meaning of its answers: pure functions."""

import re
from collections.abc import Mapping
from typing import Any, Final

from shared.engines.parameters import RenderParameters
from worker.engines.remote.fal.models import FalModel
from worker.engines.remote.hosted.model import cut_prompt
from worker.engines.remote.hosted.seen import Phase, Seen

MAX_URI_CHARS: Final = 8 * 1000 * 1000
NAMESPACES: Final = frozenset({"workflows", "comfy"})

REFUSED: Final = frozenset({"content_policy_violation", "no_media_generated"})
"""Types of errors by which an app refuses to make a clip."""

_PHASES: Final[Mapping[str, Phase]] = {
    "IN_QUEUE": Phase.WAITING,
    "IN_PROGRESS": Phase.RUNNING,
    "COMPLETED": Phase.SUCCEEDED,
}
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,100}")


def create_body(
    model: FalModel, asked: RenderParameters, *, first: str, last: str | None = None
) -> dict[str, Any]:
    """Return the arguments of an app; `first` and `last` are images as data URIs."""
    seconds = model.seconds_near(asked.seconds)
    body: dict[str, Any] = {
        "image_url": first,
        "prompt": cut_prompt(asked.prompt, model.max_prompt),
        **model.fixed,
    }
    if model.frames:
        body["num_frames"] = seconds * model.fps + 1
    else:
        body["duration"] = str(seconds) if model.text_seconds else seconds
    if model.takes_seed:
        body["seed"] = asked.seed
    if model.takes_negative_prompt and asked.negative_prompt:
        body["negative_prompt"] = asked.negative_prompt
    if last is not None and model.last_frame is not None:
        body[model.last_frame] = last
    return body


def request_path(app: str, request_id: str) -> str:
    """Return the path to poll a request of an app: it has only the app's first two names.

    It is built here and not taken from an answer, so that the key goes only to the operator's
    host.
    """
    parts = app.split("/")
    return f"/{'/'.join(parts[: 3 if parts[0] in NAMESPACES else 2])}/requests/{request_id}"


def read_request_id(body: Mapping[str, Any]) -> str:
    """Return the id of a new request.

    Raises:
        KeyError, TypeError, ValueError: the answer has none.
    """
    found = body["request_id"]
    if not _REQUEST_ID.fullmatch(found):
        raise ValueError("the request id is none")
    return str(found)


def read_status(body: Mapping[str, Any]) -> Seen:
    """Return the meaning of a status; a completed request may still have failed.

    Raises:
        KeyError, TypeError, ValueError: it is not a status.
    """
    phase = _PHASES[body["status"]]
    if phase is Phase.SUCCEEDED and body.get("error"):
        return Seen(
            phase=Phase.FAILED,
            failure=str(body.get("error_type") or ""),
            reason=str(body["error"]),
        )
    return Seen(phase=phase)


def read_url(body: Mapping[str, Any]) -> str:
    """Return the address of a completed request's clip.

    Raises:
        KeyError, TypeError: the answer names none.
    """
    return str(body["video"]["url"])


def error_types(body: Any) -> tuple[str, ...]:
    """Return the types of errors in an answer: a model's list, or the queue's own."""
    detail = body.get("detail") if isinstance(body, Mapping) else body
    listed = detail if isinstance(detail, list) else []
    types = [each.get("type") for each in listed if isinstance(each, Mapping)]
    own = body.get("error_type") if isinstance(body, Mapping) else None
    return tuple(str(each) for each in (*types, own) if each)
