"""The requests to a server of `/v1/videos`, and the meaning of its answers: pure functions."""

import io
import secrets
from collections.abc import Mapping
from typing import Any, Final

import PIL.Image

from shared.engines.parameters import RenderParameters
from shared.errors import RenderFailed
from worker.engines.base import RenderRequest
from worker.engines.framing import framed
from worker.engines.remote.answers import one_line, read_json
from worker.engines.remote.errors import (
    Away,
    ContentRefused,
    KeyRefused,
    RequestRefused,
    TaskFailed,
)
from worker.engines.remote.provider import Look, TaskState

STATES: Final = {
    "queued": TaskState.WAITING,
    "pending": TaskState.WAITING,
    "in_progress": TaskState.RENDERING,
    "processing": TaskState.RENDERING,
    "running": TaskState.RENDERING,
    "completed": TaskState.DONE,
    "succeeded": TaskState.DONE,
    "failed": TaskState.FAILED,
    "error": TaskState.FAILED,
    "canceled": TaskState.CANCELED,
    "cancelled": TaskState.CANCELED,
    "deleted": TaskState.CANCELED,
    "expired": TaskState.CANCELED,
}
_MODERATION: Final = ("moderation", "content_policy", "safety", "sensitive")
_LATER: Final = frozenset({404, 408, 425, 429, 503})
"""For a create: there is no task, but there may be one later, or on another server."""


def form(request: RenderRequest, model: str) -> tuple[str, bytes]:
    """Return the content type and the body of a create: always multipart, as the SDK sends.

    The image is framed here, so that `fit` means the same with every server. Beside OpenAI's own
    fields it has those of vLLM-Omni and sglang; other servers ignore them.
    """
    boundary = f"stillreel-{secrets.token_hex(16)}"
    body = io.BytesIO()
    for name, value in _fields(request.parameters, model).items():
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
        body.write(f"{head}{value}\r\n".encode())
    body.write(
        f'--{boundary}\r\nContent-Disposition: form-data; name="input_reference";'
        ' filename="image.png"\r\nContent-Type: image/png\r\n\r\n'.encode()
    )
    body.write(_image(request) + f"\r\n--{boundary}--\r\n".encode())
    return f"multipart/form-data; boundary={boundary}", body.getvalue()


def _fields(asked: RenderParameters, model: str) -> dict[str, str]:
    fields = {
        "model": model,
        "prompt": asked.prompt,
        "size": f"{asked.width}x{asked.height}",
        "seconds": str(max(1, round(asked.seconds))),
        "num_frames": str(asked.num_frames),
        "fps": str(asked.fps),
        "seed": str(asked.seed),
        "num_inference_steps": str(asked.num_inference_steps),
        "guidance_scale": f"{asked.guidance_scale:g}",
    }
    return fields | ({"negative_prompt": asked.negative_prompt} if asked.negative_prompt else {})


def _image(request: RenderRequest) -> bytes:
    frame = framed(request.image, request.parameters)
    file = io.BytesIO()
    PIL.Image.fromarray(frame).save(file, "PNG", compress_level=1)
    return file.getvalue()


def read(body: bytes, *, secrets: tuple[str, ...] = ()) -> Mapping[str, Any]:
    """Return the JSON object of the answer, or an empty one; it contains no secret."""
    try:
        said = read_json(body, secrets=secrets)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def refused_create(status: int, said: Mapping[str, Any], retry_after: int | None) -> Exception:
    """Return the meaning of a create's answer that has no task."""
    if status in (401, 403):
        return _key_refused()
    if status in _LATER:
        return Away(
            f"it accepted no task: {_words(said, status)}",
            retry_after_seconds=retry_after,
            is_refusal=True,
        )
    if 400 <= status < 500:
        return _in_words(said, RequestRefused(f"it was refused: {_words(said, status)}"))
    return Away(f"it answered {status} to a create", retry_after_seconds=retry_after)


def look_at(said: Mapping[str, Any], again_seconds: float | None) -> Look:
    """Return the meaning of a video object.

    Raises:
        Away: it has an unknown status.
    """
    status = str(said.get("status", "")).lower()
    if status not in STATES:
        raise Away(f"it answered with the unknown status {one_line(status[:40])!r}")
    state = STATES[status]
    return Look(
        state,
        progress=_progress(said.get("progress")),
        link=_link(said),
        error=failure(said) if state is TaskState.FAILED else None,
        again_seconds=again_seconds,
    )


def failure(said: Mapping[str, Any], status: int | None = None) -> RenderFailed:
    """Return why a task failed, in the server's own words, cut to one line."""
    return _in_words(
        said, TaskFailed(f"the server that rendered it failed: {_words(said, status)}")
    )


def _key_refused() -> KeyRefused:
    return KeyRefused(
        "the server that renders this model refused our key; the operator must check it"
    )


def _in_words(said: Mapping[str, Any], otherwise: RenderFailed) -> RenderFailed:
    code = str(_error(said).get("code") or _error(said).get("type") or "").lower()
    if any(word in code for word in _MODERATION):
        return ContentRefused(f"the image or the prompt was refused: {_words(said, None)}")
    return otherwise


def _error(said: Mapping[str, Any]) -> Mapping[str, Any]:
    error = said.get("error")
    return error if isinstance(error, dict) else {}


def _words(said: Mapping[str, Any], status: int | None) -> str:
    """Return the text of an answer: OpenAI's `error`, FastAPI's `detail`, or neither."""
    detail = said.get("detail")
    if isinstance(detail, list) and detail and isinstance(detail[0], dict):
        detail = detail[0].get("msg")
    error = said.get("error")
    for words in (_error(said).get("message"), detail, error, said.get("message")):
        if isinstance(words, str) and words.strip():
            return one_line(words)
    return "no reason given" if status is None else f"status {status}"


def _progress(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value / 100 if 0 <= value <= 100 else None  # NaN passes neither comparison.


def _link(said: Mapping[str, Any]) -> str | None:
    """Return the address of the clip, if the server keeps it in another place."""
    return next(
        (said[name] for name in ("url", "video_url") if isinstance(said.get(name), str)), None
    )
