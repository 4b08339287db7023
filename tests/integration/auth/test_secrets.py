"""Planted secrets appear nowhere: not in logs, answers, arguments, metrics or tables."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import psutil
import pytest
import requests

from tests.integration.worker.test_worker import SETTINGS
from tests.support.factory import JobFixture
from tests.support.gateway import photo_png
from tests.support.ports import free_port
from tests.support.processes import Crew, crew, until
from tests.support.receiver import Receiver
from tests.support.stack import ROOT, Stack

pytestmark = [pytest.mark.extended, pytest.mark.long]

PLANTED: Final = "planted-7c1f09e2"
HEADER: Final = "planted-header-90b3aa17"
ADMIN_KEY: Final = "an-admin-key-of-the-tests-51b3f6a7"
ENDS: Final = frozenset({"succeeded", "failed", "canceled"})
EVENT: Final = "job.succeeded"
PHOTO: Final = photo_png(size=(64, 64))

MEANT: Final = {
    # The tables keep it because each try is signed with it.
    ("the tables", "an endpoint's secret"),
    # The owner wrote these words, and is shown them.
    ("the tables", "a prompt or a token in an address"),
    ("the answers", "a prompt or a token in an address"),
    # The link's owner should have it.
    ("the answers", "the signature of a link"),
}
"""The places where a secret has to be."""

PROCESSES: Final = (
    ["api"],
    ["worker"],
    ["worker.keeper"],
    ["alembic", "upgrade", "head"],
)


def refusal(argv: list[str], settings: Mapping[str, str]) -> str:
    """Return the error that a process prints instead of starting."""
    done = subprocess.run(
        [sys.executable, "-m", *argv],
        cwd=ROOT,
        env={**os.environ, **{f"STILLREEL_{name}": value for name, value in settings.items()}},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode not in {0, None}
    return done.stdout + done.stderr


@pytest.mark.parametrize("argv", PROCESSES, ids=lambda argv: argv[0])
@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"PORT": f"{PLANTED}"}, "STILLREEL_PORT"),
        ({"PUBLIC_URL": "https://video.example.org/"}, "PUBLIC_URL"),
    ],
    ids=["type", "rule"],
)
def test_a_wrong_setting_is_named_and_no_value_is_shown(
    argv: list[str], wrong: dict[str, str], named: str
) -> None:
    secrets = {
        "DATABASE_URL": f"postgresql+psycopg://user:{PLANTED}@127.0.0.1:1/none",
        "S3_SECRET_KEY": PLANTED,
    }
    said = refusal(argv, secrets | wrong)
    assert said.startswith("the settings are wrong: STILLREEL")
    assert said.count("\n") == 1
    assert named in said
    assert PLANTED not in said


class Service:
    """The three processes of a service that logs everything, and all answers that it gave."""

    def __init__(self, stack: Stack, people: Crew) -> None:
        self.stack = stack
        self.people = people
        self.port = free_port()
        self.answers: list[str] = []
        settings = SETTINGS | {"port": self.port, "admin_key": ADMIN_KEY, "log_level": "DEBUG"}
        self.logs = [
            people.start(module, **settings | {"outbound_allow": "127.0.0.0/8"}).log
            for module in ("api", "worker", "worker.keeper")
        ]

    def ask(self, method: str, path: str, key: str, **request: Any) -> requests.Response:
        answer = requests.request(
            method,
            f"http://127.0.0.1:{self.port}{path}",
            headers={"Authorization": f"Bearer {key}"},
            timeout=30,
            **request,
        )
        self.answers.append(f"{answer.headers} {answer.text}")
        return answer

    def told(self, field: str, path: str, key: str, **body: Any) -> str:
        """Return the secret from an answer that is meant to show it once."""
        answer = self.ask("POST", path, key, json=body)
        assert answer.ok, answer.text
        self.answers.pop()
        return str(answer.json()[field])

    def signed_in(self, key: str) -> str:
        """Return the token of a new session, after some requests with it."""
        answer = self.ask("POST", "/v1/session", key)
        self.answers.pop()
        cookie = answer.headers["Set-Cookie"].partition(";")[0]
        for path in ("/v1/session", "/v1/jobs", "/v1/nothing"):
            url = f"http://127.0.0.1:{self.port}{path}"
            found = requests.get(url, headers={"Cookie": cookie}, timeout=30)
            self.answers.append(f"{found.headers} {found.text}")
        return cookie.partition("=")[2]

    def render(self, script: str, key: str, **form: str) -> str:
        answer = self.ask(
            "POST",
            "/v1/jobs",
            key,
            files={"image": ("cat.png", PHOTO)},
            data={"model": "scripted", "prompt": script, "num_frames": "1", **form},
        )
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def ended(self, job: str, key: str) -> str:
        path = f"/v1/jobs/{job}?wait=20"
        return until(
            lambda: (now := self.ask("GET", path, key).json()["status"]) in ENDS and now,
            "the job ends",
        )

    def is_up(self) -> bool:
        try:
            ready = requests.get(f"http://127.0.0.1:{self.port}/readyz", timeout=10)
            return ready.json()["status"] == "ready"
        except requests.RequestException:
            return False


@pytest.fixture
def service(stack: Stack, tmp_path: Path) -> Iterator[Service]:
    with crew(stack, tmp_path) as people:
        service = Service(stack, people)
        until(service.is_up, "the gateway and a worker serve")
        yield service


def live_through_everything(service: Service, receiver: Receiver) -> dict[str, str]:
    """Cause successes, refusals, crashes and outages; return each secret by its name."""
    key = service.told("key", "/v1/keys", ADMIN_KEY, name="cms")
    hook = {"name": "cms", "url": receiver.url(f"/hook?token={PLANTED}"), "event_types": [EVENT]}
    signing = service.told("signing_secret", "/v1/webhook_endpoints", key, **hook)
    own = {
        "webhook[url]": receiver.url(f"/own?token={PLANTED}"),
        "webhook[headers][Authorization]": f"Bearer {HEADER}",
    }
    job = service.render(f"{PLANTED} steps=2", key, **own)
    assert service.ended(job, key) == "succeeded"
    token = service.signed_in(key)
    link = service.ask("GET", f"/v1/jobs/{job}", key).json()["output"]["video"]["url"]
    for url in (link, f"{link}x"):
        requests.get(url, timeout=30)
    for script in ("surprise", "nan", "weights"):
        assert service.ended(service.render(f"{PLANTED} {script}", key), key) == "failed"
    (told,) = receiver.wait_for(1, f"/own?token={PLANTED}")
    assert told.headers["authorization"] == f"Bearer {HEADER}"
    for given in (f"{key}x", key[:-1], f"{ADMIN_KEY}y", PLANTED):
        assert service.ask("GET", "/v1/jobs", given).status_code == 401
    assert service.ask("GET", f"/v1/jobs?api_key={key}", key).status_code == 422
    assert service.ask("POST", "/v1/jobs", key, data=b'{"prompt": ').status_code in {400, 415, 422}
    for server in service.stack.servers:
        server.kill()
        service.ask("GET", "/v1/jobs", key)
        service.ask("GET", "/readyz", key)
        service.ask("POST", "/v1/jobs", key, files={"image": ("cat.png", PHOTO)})
        server.restart()
    until(lambda: service.ask("GET", "/v1/jobs", key).ok, "the database is back")
    assert service.ended(service.render("steps=1", key), key) == "succeeded"
    state = service.stack.servers.state
    return {
        "an API key": key,
        "the admin key": ADMIN_KEY,
        "an endpoint's secret": signing.removeprefix("whsec_"),
        "a prompt or a token in an address": PLANTED,
        "the password of Postgres": state.postgres_password,
        "the password of Valkey": state.valkey_password,
        "the secret key of S3": state.s3_secret_key,
        "the secret of the installation": state.secret,
        "a header of a webhook": HEADER,
        "the token of a session": token,
        "the signature of a link": link.rpartition(".")[2],
    }


def test_no_secret_is_in_a_log_an_answer_an_argument_a_metric_or_a_table(service: Service) -> None:
    with Receiver() as receiver:
        secrets = live_through_everything(service, receiver)
    metrics = service.ask("GET", "/metrics", ADMIN_KEY).text
    places = {
        "the logs": "\n".join(log.read_text() for log in service.logs),
        "the answers": "\n".join(service.answers),
        "the metrics": metrics,
        "the arguments": "\n".join(" ".join(p.info["cmdline"] or []) for p in every_process()),
        "the tables": dump(service.stack),
    }
    kept = {
        (place, what) for place in places for what in secrets if secrets[what] in places[place]
    }
    assert kept == MEANT


def every_process() -> Iterator[psutil.Process]:
    return psutil.process_iter(["cmdline"])


def dump(stack: Stack) -> str:
    """Return every row of every table as JSON."""
    with contextlib.closing(JobFixture(stack.settings())) as desk:
        names = desk.run("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        rows = [
            desk.run(f"SELECT to_jsonb(t)::text AS row FROM {name['tablename']} t")  # noqa: S608
            for name in names
        ]
    return "\n".join(row["row"] for table in rows for row in table)
