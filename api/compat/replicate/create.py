"""The body of a prediction, as Replicate's clients write it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Self

from api.compat.create import ForeignRequest, Names, foreign_request
from api.submit.blanks import without_blanks
from api.submit.body import Received, read_named
from shared.engines.given_images import SINGLE
from shared.engines.spec import EngineSpec
from shared.errors import InvalidRequest, UnknownModel, UnsupportedBody
from shared.excerpt import excerpt
from shared.jobs.prediction import EVENTS, OWNER, PREFIX, version_id

IMAGES: Final = ("image", "input_image", "start_image", "first_frame_image")
NAMES: Final = Names(
    images=IMAGES,
    ours={
        "frames_per_second": "fps",
        "max_frames": "num_frames",
        "video_length": "num_frames",
        "duration": "seconds",
    },
)
INNER: Final = NAMES.all - {"model"}
"""What an input has; the model stands beside it."""

OUTER: Final = frozenset(
    {"version", "input", "webhook", "webhook_completed", "webhook_events_filter", "stream"}
)

_VERSION: Final = re.compile(
    r"(?:(?P<owner>[^/:@]{1,100})/)?(?P<name>[^/:@]{1,100})(?::[^/:@]{1,100})?"
    r"(?:@(?P<revision>[^/:@]{1,200}))?"
)
_FILE: Final = re.compile(rf"https?://[^/]*{PREFIX}/files/(upload_[0-9a-f]{{32}})(?:[?#].*)?")


@dataclass(frozen=True)
class PredictionRequest(ForeignRequest):
    """A prediction to make; `revision` is the engine's revision that the client expects."""

    revision: str | None = None

    def fitted(self, spec: EngineSpec) -> Self:
        if self.revision not in (None, spec.revision):
            raise InvalidRequest(
                f"there is no version {excerpt(self.revision)} of {OWNER}/{spec.name}; its"
                f" version is {version_id(spec.name, spec.revision)}",
                param="version",
            )
        return super().fitted(spec)


def read_prediction(received: Received, *, model: str | None = None) -> PredictionRequest:
    """Check a body field by field; our own files are not fetched by URL.

    Args:
        model: the engine, if the path names it.
    """
    if received.json is None:
        raise UnsupportedBody(
            "send the prediction as application/json, with the image as a data URI, a URL, or the"
            f" urls.get of a file that was sent to {PREFIX}/files",
            param="Content-Type",
        )
    sent, unknown = read_named(received, OUTER)
    outer, others = without_blanks(sent), [*unknown]
    if outer.get("stream"):
        others.append("stream")
    values = outer.get("input", {})
    if not isinstance(values, Mapping):
        raise InvalidRequest("input takes an object of names and values", param="input")
    revision = None
    if model is None:
        model, revision = _named(outer.get("version"))
    known = {name: value for name, value in values.items() if name in INNER}
    others += [name for name in values if name not in INNER]
    known |= {name: _own_file(known[name]) for name in (*IMAGES, *SINGLE) if name in known}
    if isinstance(known.get("keyframes"), list):
        known["keyframes"] = [*map(_of_own_files, known["keyframes"])]
    fixed = {"model": model, **_webhook(outer)}
    url = "webhook" if "webhook" in outer else "webhook_completed"
    request = foreign_request(known, others, NAMES, words={"webhook.url": url}, **fixed)
    said = {each.name: getattr(request, each.name) for each in fields(request)}
    return PredictionRequest(**said, revision=revision)


def engine_of(owner: str, name: str) -> str:
    """Return the engine of a model name.

    Raises:
        UnknownModel: the model belongs to another owner.
    """
    if owner != OWNER:
        raise UnknownModel(
            f"there is no model {excerpt(f'{owner}/{name}')} here; models here are called"
            f" {OWNER}/NAME, and GET {PREFIX}/models lists them",
            param="model",
        )
    return name


def _named(version: object) -> tuple[str, str | None]:
    match = _VERSION.fullmatch(version) if isinstance(version, str) else None
    if match is None:
        raise InvalidRequest(
            f"{'version is missing' if version is None else f'{excerpt(version)} is no version'};"
            f" it takes one like {OWNER}/camera, or what GET {PREFIX}/models shows as"
            " latest_version",
            param="version",
        )
    return engine_of(match["owner"] or OWNER, match["name"]), match["revision"]


def _webhook(outer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the receiver of the job's events, and our events for those of Replicate."""
    url = outer.get("webhook")
    wanted = outer.get("webhook_events_filter")
    if url is None:
        url, wanted = outer.get("webhook_completed"), ["completed"]
    if url is None:
        return {}
    names = list(EVENTS) if wanted is None else wanted
    if not isinstance(names, list) or any(name not in EVENTS for name in map(str, names)):
        raise InvalidRequest(
            f"webhook_events_filter takes a list of {', '.join(EVENTS)}",
            param="webhook_events_filter",
        )
    types = dict.fromkeys(event for name in names for event in EVENTS[str(name)])
    return {"webhook": {"url": url, "event_types": list(types)}}


def _own_file(value: Any) -> Any:
    """Return a file that is stored here as the upload that it is.

    This service may have other host names than the one of the request. Elsewhere such an address
    has no image either.
    """
    match = _FILE.fullmatch(value.strip()) if isinstance(value, str) else None
    return value if match is None else {"upload_id": match[1]}


def _of_own_files(keyframe: Any) -> Any:
    if not isinstance(keyframe, Mapping) or "image" not in keyframe:
        return keyframe
    return {**keyframe, "image": _own_file(keyframe["image"])}
