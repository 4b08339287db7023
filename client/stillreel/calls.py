"""The calls of the API that send one request and get one answer."""

import uuid
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from stillreel.decode import body, decode
from stillreel.errors import UnexpectedAnswer
from stillreel.installation import Key, Model, NewKey
from stillreel.job import Job
from stillreel.photo import Photo, form, is_url, read_photo
from stillreel.retry import RetryPolicy, send
from stillreel.steps import Answer, Found, Iteration, Request, Steps

LONG_ANSWER_SECONDS: Final = 120.0
"""A submit is answered after the image was decoded and stored, if necessary after others."""


def submit(
    photo: Photo,
    prompt: str,
    fields: Mapping[str, Any],
    policy: RetryPolicy,
    *,
    idempotency_key: str | None = None,
) -> Steps[Job]:
    """Queue a clip; however often the request is sent, it makes one job."""
    request = Request(
        "POST",
        "/v1/jobs",
        headers={"Idempotency-Key": idempotency_key or uuid.uuid4().hex},
        form=form(photo, prompt, fields),
        file=None if is_url(photo) else read_photo(photo),
        read_seconds=LONG_ANSWER_SECONDS,
    )
    return decode(Job, body((yield from send(request, policy))))


def get_job(job_id: str, policy: RetryPolicy) -> Steps[Job]:
    return decode(Job, (yield from _get(job_path(job_id), policy)))


def cancel_job(job_id: str, policy: RetryPolicy) -> Steps[Job]:
    request = Request("POST", f"{job_path(job_id)}/cancel")
    return decode(Job, body((yield from send(request, policy))))


def delete_job(job_id: str, policy: RetryPolicy) -> Steps[None]:
    yield from send(Request("DELETE", job_path(job_id)), policy)


def list_jobs(narrow: Mapping[str, Any], policy: RetryPolicy) -> Iteration[Job]:
    """Find every job of a listing, page by page."""
    after: str | None = None
    while True:
        jobs, has_more = yield from list_page(narrow, after, policy)
        for job in jobs:
            yield Found(job)
        if not has_more or not jobs:
            return
        after = jobs[-1].id


def list_page(
    narrow: Mapping[str, Any], after: str | None, policy: RetryPolicy
) -> Steps[tuple[list[Job], bool]]:
    """Return one page of jobs, and whether there is another."""
    params = {"limit": "100"} | query({**narrow, "after": after})
    page = yield from _get("/v1/jobs", policy, params)
    return [decode(Job, each) for each in _data(page)], bool(page.get("has_more"))


def list_models(policy: RetryPolicy) -> Steps[list[Model]]:
    listed = yield from _get("/v1/models", policy)
    return [decode(Model, each) for each in _data(listed)]


def get_queue(policy: RetryPolicy) -> Steps[dict[str, Any]]:
    return (yield from _get("/v1/queue", policy))


def estimate(model: str, fields: Mapping[str, Any], policy: RetryPolicy) -> Steps[dict[str, Any]]:
    """Return when a clip like this would be ready, as the service expects it."""
    path = f"/v1/models/{quote(model, safe='')}/estimate"
    return (yield from _get(path, policy, query(fields)))


def list_keys(policy: RetryPolicy) -> Steps[list[Key]]:
    listed = yield from _get("/v1/keys", policy)
    return [decode(Key, each) for each in _data(listed)]


def create_key(name: str, fields: Mapping[str, Any], policy: RetryPolicy) -> Steps[NewKey]:
    said = {"name": name} | {field: value for field, value in fields.items() if value is not None}
    request = Request("POST", "/v1/keys", json=said)
    # A second request would find the name taken, and the first one's secret would be lost.
    return decode(NewKey, body((yield from send(request, policy, is_repeatable=False))))


def rotate_key(key_id: str, overlap_hours: float, policy: RetryPolicy) -> Steps[NewKey]:
    request = Request(
        "POST",
        f"/v1/keys/{quote(key_id, safe='')}/rotate",
        json={"overlap_hours": overlap_hours},
    )
    return decode(NewKey, body((yield from send(request, policy, is_repeatable=False))))


def revoke_key(key_id: str, policy: RetryPolicy) -> Steps[Key]:
    request = Request("DELETE", f"/v1/keys/{quote(key_id, safe='')}")
    return decode(Key, body((yield from send(request, policy))))


def job_path(job_id: str) -> str:
    return f"/v1/jobs/{quote(job_id, safe='')}"


def query(values: Mapping[str, Any]) -> dict[str, str]:
    """Return parameters of a query; `metadata` becomes one for each pair, and None is left out."""
    pairs = {f"metadata[{name}]": value for name, value in (values.get("metadata") or {}).items()}
    plain = {name: str(value) for name, value in values.items() if value is not None}
    plain.pop("metadata", None)
    return plain | pairs


def _get(
    path: str, policy: RetryPolicy, params: Mapping[str, str] | None = None
) -> Steps[dict[str, Any]]:
    answer: Answer = yield from send(Request("GET", path, params=params or {}), policy)
    return body(answer)


def _data(listed: Mapping[str, Any]) -> list[Any]:
    found = listed.get("data")
    if not isinstance(found, list):
        raise UnexpectedAnswer("the answer has no list; is it Stillreel that answers there?")
    return found
