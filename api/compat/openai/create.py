"""The body of `POST /v1/videos`, in the forms of OpenAI's, vLLM-Omni's and SGLang's clients."""

from dataclasses import replace
from typing import Any, Final

from api.compat.create import ForeignRequest, Names, read_foreign
from api.submit.body import Received

NAMES: Final = Names(
    images=("input_reference", "image_reference", "reference_url", "image_url", "image"),
    ours={"duration": "seconds"},
    more=("extra_params", "extra_body"),
)

PREVIEWS: Final = ("poster", "spritesheet")
"""The files that `download_content` may be asked for beside the video."""

_TEXT: Final = {"type": "string", "maxLength": 2000}
_REFERENCE: Final = {
    "type": "object",
    "required": ["image_url"],
    "properties": {"image_url": {"type": "string", "format": "uri", "maxLength": 2000}},
}


def read_video(received: Received) -> ForeignRequest:
    """Check a body field by field; every clip gets the previews that OpenAI's clients know."""
    request = read_foreign(received, NAMES)
    outputs = tuple(dict.fromkeys((*request.fields.outputs, *PREVIEWS)))
    return replace(request, fields=request.fields.model_copy(update={"outputs": outputs}))


def _body(reference: dict[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "prompt": _TEXT,
        "input_reference": reference,
        "model": {"type": "string", "maxLength": 100},
        "seconds": {"type": "string", "maxLength": 20, "description": "The clip's length."},
        "size": {"type": "string", "maxLength": 20, "description": "As in 1280x720."},
        "negative_prompt": _TEXT,
        **{name: {"type": "integer"} for name in ("width", "height", "num_frames", "fps")},
        **{name: {"type": "integer"} for name in ("num_inference_steps", "seed")},
        "guidance_scale": {"type": "number"},
    }
    return {
        "schema": {"type": "object", "required": ["input_reference"], "properties": properties}
    }


VIDEO_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": _body({"type": "string", "contentMediaType": "image/*"}),
            "application/json": _body(_REFERENCE),
        },
    }
}
