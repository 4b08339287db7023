"""Pages of jobs are in order and can be filtered; an unknown filter is refused."""

from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest
import requests

from shared.errors import OutOfMemory
from shared.ids import new_id
from tests.support.gateway import MODEL, PATIENT, FakeWorker, Gateway, running_gateway
from tests.support.stack import Stack


def ids(gateway: Gateway, query: str = "") -> list[str]:
    return [job["id"] for job in page(gateway, query)["data"]]


def page(gateway: Gateway, query: str = "") -> dict[str, Any]:
    answer = gateway.get(f"/v1/jobs{query}")
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def test_pages_follow_each_other_without_gap_or_repeat(gateway: Gateway) -> None:
    made = [gateway.created()["id"] for _ in range(5)]
    first = page(gateway, "?limit=2")
    second = page(gateway, f"?limit=2&after={first['last_id']}")
    third = page(gateway, f"?limit=2&after={second['last_id']}")
    assert [first["has_more"], second["has_more"], third["has_more"]] == [True, True, False]
    assert first["object"] == "list"
    assert first["first_id"] == made[-1]
    found = [job["id"] for part in (first, second, third) for job in part["data"]]
    assert found == made[::-1]
    assert ids(gateway, "?order=asc") == made


def test_an_empty_page_has_no_ends(gateway: Gateway) -> None:
    assert page(gateway) == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }


def test_a_listing_is_narrowed_by_status_model_and_metadata(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    failed = gateway.created(**{"metadata[post]": "1", "metadata[site]": "a"})["id"]
    fake_worker.fail(fake_worker.claim(), OutOfMemory("too large"))
    queued = gateway.created(**{"metadata[post]": "1"})["id"]
    other = gateway.created(model=MODEL.name, prompt="x")["id"]
    assert ids(gateway, "?status=failed") == [failed]
    assert ids(gateway, "?model=model") == [other]
    assert ids(gateway, "?metadata[post]=1") == [queued, failed]
    assert ids(gateway, "?metadata[post]=1&metadata[site]=a") == [failed]
    assert ids(gateway, "?metadata%5Bpost%5D=1&status=queued") == [queued]
    assert ids(gateway, f"?batch_id=batch_{new_id().hex}") == []


@pytest.mark.parametrize(
    ("query", "param", "reason"),
    [
        ("?limt=5", "limt", "did you mean limit?"),
        ("?limit=0", "limit", "it takes 1 or more"),
        ("?limit=101", "limit", "it takes 100 at most"),
        ("?order=up", "order", "'asc' or 'desc'"),
        ("?status=done", "status", "'succeeded'"),
        ("?after=job_1", "after", "not the id of one of your jobs"),
        ("?after=job_01a20366cbd276a0ab418906a751ca87", "after", "not the id of one of your jobs"),
        ("?batch_id=7", "batch_id", "not the id of a batch"),
        ("?model=%00", "model", "NUL"),
        ("?metadata[a]=%00", "metadata", "NUL"),
        ("?metadata[=1", "metadata[", "metadata[…]"),
        ("?metadatas[a]=1", "metadatas[a]", "there is no field"),
        ("?metadata[]=1", "metadata.", "too short"),
        (f"?metadata[{'k' * 41}]=1", f"metadata.{'k' * 41}", "40 characters at most"),
        (f"?metadata[k]={'v' * 501}", "metadata.k", "500 characters at most"),
        ("?" + "&".join(f"metadata[{n}]=1" for n in range(51)), "metadata", "50 at most"),
        (f"?after={'a' * 101}", "after", "100 characters at most"),
        (f"?limit={'9' * 5000}", "limit", "too long for a number"),
    ],
)
def test_a_wrong_query_names_itself(gateway: Gateway, query: str, param: str, reason: str) -> None:
    answer = gateway.get(f"/v1/jobs{query}")
    assert (answer.status_code, answer.json()["param"]) == (422, param)
    assert reason in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/v1/models", "/v1/queue", "/v1/webhook_endpoints"])
def test_metadata_narrows_the_listing_of_jobs_and_nothing_else(
    gateway: Gateway, path: str
) -> None:
    answer = gateway.get(f"{path}?metadata[a]=1")
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_parameter")


def test_words_are_looked_for_in_prompts_and_metadata(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    lion = gateway.created(prompt="The LION turns 100% round")["id"]
    zebra = gateway.created(**{"metadata[animal]": "Zebra"})["id"]
    for words, found in (
        ("lion", [lion]),
        ("100%", [lion]),
        ("zEBRA", [zebra]),
        ("animal", []),
        ("r", [zebra, lion]),
        ("_", []),
    ):
        body = page(gateway, f"?q={quote(words)}")
        assert ([job["id"] for job in body["data"]], body["is_cut"]) == (found, False)
    assert ids(gateway, "?q=r&order=asc&limit=1") == [lion]
    assert ids(gateway, f"?q=r&after={zebra}") == [lion]
    assert ids(gateway, "?q=r&status=running") == []
    assert gateway.get("/v1/jobs?q=%00").status_code == 422
    assert gateway.get("/v1/jobs?q=").status_code == 422


def test_a_search_goes_through_the_newest_only_and_says_so(
    module_stack: Stack, fake_worker: FakeWorker
) -> None:
    with running_gateway(module_stack.settings(), replace(PATIENT, searched=2)) as gateway:
        old, *new = [gateway.created(**{"metadata[k]": "v"})["id"] for _ in range(3)]
        for query in ("?metadata[k]=v", "?q=v"):
            body = page(gateway, query)
            assert [job["id"] for job in body["data"]] == new[::-1]
            assert body["is_cut"] is True
        assert ids(gateway, "?metadata[k]=v&order=asc") == new
        assert old in ids(gateway)
        # Deleted jobs and jobs of other models do not count among the newest.
        requests.delete(f"{gateway.url}/v1/jobs/{new[0]}", timeout=30).raise_for_status()
        assert ids(gateway, "?metadata[k]=v") == [new[1], old]
        gateway.created(model=MODEL.name, prompt="x", **{"metadata[k]": "v"})
        assert ids(gateway, "?q=v&model=moves") == [new[1], old]
        assert ids(gateway, "?q=v&status=queued&model=moves") == [new[1], old]


def test_every_filter_goes_with_every_other(gateway: Gateway, fake_worker: FakeWorker) -> None:
    gateway.created(**{"metadata[k]": "v"})
    fake_worker.complete(fake_worker.claim())
    wanted = gateway.created(prompt="one", **{"metadata[k]": "v"})["id"]
    gateway.created(prompt="one", model=MODEL.name, **{"metadata[k]": "v"})
    every = "?status=queued&model=moves&metadata[k]=v&q=one&order=asc&limit=1"
    assert ids(gateway, every) == [wanted]
    assert ids(gateway, "?status=queued&model=moves") == [wanted]
    assert ids(gateway, f"{every}&batch_id=batch_{new_id().hex}") == []
