"""A quick answer equals the answer of its route, and is never out of date."""

import socket
from typing import Any
from uuid import UUID

import pytest
import requests
from sqlalchemy import text

from shared.jobs.job import parse_id
from shared.owners import ANONYMOUS, end_links
from tests.support.gateway import FakeWorker, Gateway, running_gateway
from tests.support.stack import Stack

SLOWLY = "_=1"
"""This parameter only avoids the caches: with it, the framework reads the request."""

POLL_HEADERS = {"retry-after", "openai-poll-after-ms"}

PATHS = [
    "/v1/jobs/{ended}",
    "/v1/jobs/{queued}",
    "/v1/jobs/{missing}",
    "/v1/jobs/nonsense",
    "/v1/jobs",
    "/v1/jobs?limit=1",
    "/v1/jobs?limit=2",
    "/v1/jobs?limit=100",
    "/v1/models",
]


@pytest.fixture
def jobs(fake_worker: FakeWorker, gateway: Gateway) -> dict[str, str]:
    ended = gateway.created()["id"]
    fake_worker.complete(fake_worker.claim())
    queued = gateway.created()["id"]
    return {"ended": ended, "queued": queued, "missing": f"job_{'0' * 32}"}


def told(answer: requests.Response) -> tuple[int, dict[str, str], Any]:
    """Return an answer's content, without the values that differ in each answer."""
    headers = {name.lower(): value for name, value in answer.headers.items()}
    for name in ("x-request-id", "date", "content-length"):
        headers.pop(name, None)
    for name in POLL_HEADERS & headers.keys():
        assert int(headers[name]) >= 1  # It follows the estimate, which follows the clock.
        headers[name] = "a number"
    body = answer.json()
    if isinstance(body, dict):
        for name in ("request_id", "instance", "queue", "expected"):
            body.pop(name, None)
    return answer.status_code, headers, body


@pytest.mark.parametrize("path", PATHS)
def test_a_quick_answer_is_the_route_s_own(
    path: str, jobs: dict[str, str], gateway: Gateway
) -> None:
    path = path.format(**jobs)
    for _ in range(2):  # The second answer may be a cached one.
        quick = gateway.get(path)
        slow = gateway.get(f"{path}{'&' if '?' in path else '?'}{SLOWLY}")
        assert told(quick) == told(slow)


def test_who_has_the_newest_version_is_told_so(jobs: dict[str, str], gateway: Gateway) -> None:
    path = f"/v1/jobs/{jobs['ended']}"
    tag = gateway.get(path).headers["ETag"]
    for query in ("", f"?{SLOWLY}"):
        answer = gateway.get(f"{path}{query}", headers={"If-None-Match": tag})
        assert (answer.status_code, answer.content, answer.headers["ETag"]) == (304, b"", tag)


def test_a_poll_shows_each_change_at_once_also_one_without_a_version(
    jobs: dict[str, str], gateway: Gateway, fake_worker: FakeWorker
) -> None:
    for name in ("ended", "queued"):
        for post in map(str, range(3)):
            with fake_worker.db.begin() as connection:
                connection.execute(
                    text(
                        "UPDATE jobs SET metadata = jsonb_build_object('n', CAST(:n AS text))"
                        " WHERE id = :id"
                    ),
                    {"n": post, "id": parse_id(jobs[name])},
                )
            assert gateway.get(f"/v1/jobs/{jobs[name]}").json()["metadata"] == {"n": post}
            listed = {job["id"]: job for job in gateway.get("/v1/jobs").json()["data"]}
            assert listed[jobs[name]]["metadata"] == {"n": post}


def test_a_poll_shows_a_cancel_and_a_deletion_at_once(
    jobs: dict[str, str], gateway: Gateway
) -> None:
    path = f"/v1/jobs/{jobs['queued']}"
    assert gateway.get(path).json()["status"] == "queued"
    gateway.post(f"{path}/cancel")
    assert gateway.get(path).json()["status"] == "canceled"
    assert gateway.http.delete(f"{gateway.url}{path}", timeout=30).status_code == 204
    assert gateway.get(path).status_code == 404
    assert [job["id"] for job in gateway.get("/v1/jobs").json()["data"]] == [jobs["ended"]]


def test_links_in_a_kept_answer_end_with_their_owner_s(
    jobs: dict[str, str], gateway: Gateway, fake_worker: FakeWorker
) -> None:
    def link() -> str:
        return str(gateway.get(f"/v1/jobs/{jobs['ended']}").json()["output"]["video"]["url"])

    before = link()
    assert requests.get(before, timeout=30).status_code == 200
    with fake_worker.db.begin() as connection:
        end_links(connection, UUID(str(ANONYMOUS)))
    after = link()
    assert after != before
    assert requests.get(after, timeout=30).content == b"an mp4"
    assert requests.get(before, timeout=30).status_code == 403


def test_a_kept_answer_has_the_address_that_its_client_used(
    jobs: dict[str, str], gateway: Gateway
) -> None:
    for host in ("localhost:1", "localhost:2", "localhost:1"):
        answer = gateway.get(f"/v1/jobs/{jobs['ended']}", headers={"Host": host})
        assert answer.json()["output"]["video"]["url"].startswith(f"http://{host}/")


def test_models_that_change_are_shown_at_once(
    fake_worker: FakeWorker, gateway: Gateway, jobs: dict[str, str]
) -> None:
    names = [model["id"] for model in gateway.get("/v1/models").json()["data"]]
    with fake_worker.db.begin() as connection:
        connection.execute(text("UPDATE workers SET state = 'stopped'"))
    assert {model["workers"] for model in gateway.get("/v1/models").json()["data"]} == {0}
    with fake_worker.db.begin() as connection:
        connection.execute(text("DELETE FROM engines WHERE name = :name"), {"name": names[0]})
    assert [m["id"] for m in gateway.get("/v1/models").json()["data"]] == names[1:]


def test_reads_on_the_loop_go_on_after_a_restart_of_postgres(stack: Stack) -> None:
    with running_gateway(stack.settings()) as gateway, FakeWorker.on(stack):
        job_id = gateway.created()["id"]
        paths = [f"/v1/jobs/{job_id}", "/v1/jobs", "/v1/models"]
        for _ in range(2):
            assert [gateway.get(path).status_code for path in paths] == [200, 200, 200]
            stack.postgres.restart()
        assert [gateway.get(path).status_code for path in paths] == [200, 200, 200]


def test_reads_on_the_loop_take_an_address_of_two_servers_and_with_options(
    module_stack: Stack, fake_worker: FakeWorker
) -> None:
    port = module_stack.servers.state.ports["postgres"]
    password = module_stack.servers.state.postgres_password
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        away = nobody.getsockname()[1]
        url = (
            f"postgres://stillreel:{password}@127.0.0.1:{away},127.0.0.1:{port}"
            f"/{module_stack.database}?target_session_attrs=read-write&connect_timeout=9"
            "&application_name=mine&options=-c%20search_path%3Dpublic"
        )
        with running_gateway(module_stack.settings(database_url=url)) as gateway:
            job_id = gateway.created()["id"]
            for path in (f"/v1/jobs/{job_id}", "/v1/jobs", "/v1/models"):
                assert gateway.get(path).status_code == 200
