"""Bodies that work as they stand, for each route that takes one; a test sends them."""

from typing import Any, Final

_IMAGE: Final = "data:image/png;base64,iVBORw0KGgo="
"""The beginning of a PNG, in place of a whole one."""

_BY_URL: Final = {"url": "https://example.org/cat.jpg"}
_HOOK: Final = "https://example.org/stillreel"

EXAMPLES: Final[dict[tuple[str, str], dict[str, Any]]] = {
    ("post", "/v1/jobs"): {
        "an image in the body": {"image": {"data": _IMAGE}, "prompt": "slow zoom in"},
        "an image behind a URL": {
            "image": _BY_URL,
            "prompt": "slow zoom in",
            "seed": 7,
            "outputs": ["poster", "gif"],
            "metadata": {"order": "1234"},
            "webhook": {"url": _HOOK},
        },
    },
    ("post", "/v1/batches"): {
        "two images, one of them panned": {
            "prompt": "slow zoom in",
            "items": [
                {"image": {"data": _IMAGE}},
                {"image": {"data": _IMAGE}, "prompt": "pan left", "metadata": {"order": "2"}},
            ],
        },
        "images behind URLs, and a webhook at the end": {
            "prompt": "slow zoom in",
            "items": [{"image": _BY_URL}, {"image": _BY_URL, "seed": 7}],
            "webhook": {"url": _HOOK},
        },
    },
    ("post", "/v1/keys"): {
        "a key with limits": {"name": "cms", "max_queued": 100, "daily_seconds": 600},
        "a key that may only read": {"name": "screen", "is_read_only": True},
    },
    ("patch", "/v1/keys/{key_id}"): {
        "a new limit, and one less": {"daily_seconds": 1200, "models": None},
    },
    ("post", "/v1/keys/{key_id}/rotate"): {"an hour to change over": {"overlap_hours": 1}},
    ("post", "/v1/admin/pause"): {"the whole queue": {"reason": "a new card at noon"}},
    ("post", "/v1/admin/resume"): {"the whole queue": {}},
    ("post", "/v1/webhook_endpoints"): {
        "the ends of jobs and batches": {
            "name": "the CMS",
            "url": _HOOK,
            "event_types": ["job.succeeded", "job.failed", "batch.finished"],
        },
    },
}

PROBLEM: Final[dict[str, Any]] = {
    "type": "urn:stillreel:problem:invalid_request",
    "title": "Invalid request",
    "status": 422,
    "detail": "fps 99 is out of range for camera; it takes 1 to 60",
    "instance": "urn:stillreel:request:req_0199a3c4d5e67f8091a2b3c4d5e6f708",
    "code": "invalid_request",
    "param": "fps",
    "request_id": "req_0199a3c4d5e67f8091a2b3c4d5e6f708",
    "error": {
        "code": "invalid_request",
        "message": "fps 99 is out of range for camera; it takes 1 to 60",
        "type": "invalid_request_error",
        "param": "fps",
    },
}


# Where an id comes from: the answer that brings it, its name in paths, and whose paths those are.
_IDS: Final = (
    ("post", "/v1/jobs", "202", "job_id"),
    ("post", "/v1/batches", "202", "batch_id"),
    ("post", "/v1/keys", "201", "key_id"),
    ("post", "/v1/webhook_endpoints", "200", "endpoint_id"),
)


def add_links(document: dict[str, Any]) -> None:
    """Say which calls take the id that an answer has."""
    for method, path, status, name in _IDS:
        answer = document["paths"].get(path, {}).get(method, {}).get("responses", {}).get(status)
        if answer is None:
            continue
        begin = f"{path}/{{{name}}}"
        answer["links"] = {
            operation["operationId"]: {
                "operationId": operation["operationId"],
                "parameters": {f"path.{name}": "$response.body#/id"},
            }
            for there, item in document["paths"].items()
            for operation in item.values()
            if there == begin or there.startswith(f"{begin}/")
        }


def add_examples(document: dict[str, Any]) -> None:
    """Put the examples where readers of the document look for them."""
    for (method, path), examples in EXAMPLES.items():
        operation = document["paths"].get(path, {}).get(method, {})
        content = operation.get("requestBody", {}).get("content", {})
        if "application/json" in content:
            content["application/json"]["examples"] = {
                name: {"value": value} for name, value in examples.items()
            }
