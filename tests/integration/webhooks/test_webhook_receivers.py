"""The receivers of docs/receivers run as their pages say, and get real deliveries."""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
import requests

from shared.jobs.job import Job
from shared.jobs.view import job_view
from shared.lifecycle import Status
from shared.webhooks.signing import new_secret, sign
from tests.support.drawn_links import LINKS
from tests.support.outbox import BASE_URL, Outbox
from tests.support.ports import free_port
from tests.support.stack import ROOT
from worker.keeper.webhook_sender import Event

pytestmark = pytest.mark.extended

PAGES: Final = ROOT / "docs" / "receivers"
STUBS: Final = ROOT / "tests" / "receivers" / "wordpress.php"
MODULES: Final = Path(sys.prefix) / "receivers"
POST_ID: Final = "7"
STARTS_WITHIN: Final = 60.0


def needs(program: str) -> str:
    """Return a program's path; .ci/run installs programs that a machine may lack."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


def flask(port: int, folder: Path) -> Sequence[str]:
    app = str(PAGES / "flask_app.py")
    return [sys.executable, "-m", "flask", "--app", app, "run", "--port", str(port)]


def fastapi(port: int, folder: Path) -> Sequence[str]:
    place = ["--app-dir", str(PAGES), "--port", str(port)]
    return [sys.executable, "-m", "uvicorn", "fastapi_app:app", *place]


def express(port: int, folder: Path) -> Sequence[str]:
    """Install the modules in package.json once; a copy of the page runs beside them."""
    MODULES.mkdir(exist_ok=True)
    with (MODULES / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = (PAGES / "package.json").read_text()
        mark = MODULES / "installed.json"
        if not mark.exists() or mark.read_text() != wanted:
            shutil.copy(PAGES / "package.json", MODULES)
            install = [needs("npm"), "install", "--no-audit", "--no-fund", "--no-package-lock"]
            subprocess.run(install, cwd=MODULES, check=True, timeout=100, capture_output=True)
            mark.write_text(wanted)
    shutil.copy(PAGES / "express.mjs", folder)
    shutil.copy(PAGES / "package.json", folder)
    (folder / "node_modules").symlink_to(MODULES / "node_modules")
    return [needs("node"), str(folder / "express.mjs")]


def plain_php(port: int, folder: Path) -> Sequence[str]:
    return [needs("php"), "-S", f"127.0.0.1:{port}", str(PAGES / "plain.php")]


def wordpress(port: int, folder: Path) -> Sequence[str]:
    return [needs("php"), "-S", f"127.0.0.1:{port}", str(STUBS)]


@dataclass(frozen=True)
class Site:
    """A running receiver, and the files that it has kept."""

    url: str
    secret: str
    clips: Path
    is_wordpress: bool

    def version(self, job: Job) -> int | None:
        """Return the version of a job that the receiver knows."""
        if self.is_wordpress:
            known = self._meta().get("_stillreel_job", {"id": ""})
            return known["version"] if known["id"] == job.public_id else None
        file = self.clips / f"{job.public_id}.json"
        return json.loads(file.read_text())["version"] if file.exists() else None

    def published(self, job: Job) -> list[str]:
        """Return the links that it published for a job, one for each publication."""
        if self.is_wordpress:
            assert self._meta()["_stillreel_job"]["id"] == job.public_id
            writes = (self.clips / "writes.txt").read_text().split().count("_stillreel_video")
            return [self._meta()["_stillreel_video"]] * writes
        lines = (self.clips / "published.txt").read_text().splitlines()
        return [line.split(" ")[1] for line in lines if line.startswith(job.public_id)]

    def _meta(self) -> Any:
        file = self.clips / "meta.json"
        return json.loads(file.read_text())[POST_ID] if file.exists() else {}


@pytest.fixture(
    scope="module",
    params=[flask, fastapi, express, plain_php, wordpress],
    ids=lambda f: f.__name__,
)
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    command: Callable[[int, Path], Sequence[str]] = request.param
    folder, port = tmp_path_factory.mktemp("receiver"), free_port()
    # The pages make this folder themselves, except for WordPress, which keeps its data elsewhere.
    clips = folder / "clips"
    if command is wordpress:
        clips.mkdir()
    path = "/wp-json/stillreel/v1/webhook" if command is wordpress else "/stillreel"
    site = Site(f"http://127.0.0.1:{port}{path}", new_secret(), clips, command is wordpress)
    env = {
        **os.environ,
        "STILLREEL_WEBHOOK_SECRET": site.secret,
        "CLIPS_DIR": str(clips),
        "PORT": str(port),
        "SNIPPET": str(PAGES / "wordpress.php"),
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command(port, folder), env=env, cwd=folder, stdout=log, stderr=log, process_group=0
        )
        try:
            _wait_until_open(port, process, folder / "log")
            yield site
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(60)


@pytest.fixture
def site(running: Site) -> Site:
    """The receiver, with nothing kept."""
    for file in running.clips.glob("*"):
        file.unlink()
    return running


def _wait_until_open(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    ends_at = time.monotonic() + STARTS_WITHIN
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < ends_at, log.read_text()
        time.sleep(0.02)


def told(outbox: Outbox, site: Site) -> Job:
    """Finish a job whose endpoint is the receiver, and deliver the event."""
    endpoint_id = outbox.endpoint(site.url)
    outbox.run(
        "UPDATE webhook_endpoints SET secret = :secret WHERE id = :id",
        secret=site.secret,
        id=endpoint_id,
    )
    job = outbox.finish(metadata={"post_id": POST_ID})
    outbox.sender().tried(1)
    return job


def post(
    site: Site, body: bytes, *, age: timedelta = timedelta(0), key: str | None = None
) -> requests.Response:
    """Send a body that is signed as ours are."""
    at = datetime.now(UTC) - age
    headers: Mapping[str, str] = sign("delivery_1", at, body, signing_secrets=[key or site.secret])
    return requests.post(site.url, body, headers=dict(headers), timeout=60)


def body_of(job: Job, **changes: Any) -> bytes:
    now = datetime.now(UTC)
    shown = job_view(replace(job, link_epoch=0), links=LINKS, base_url=BASE_URL, now=now)
    view = shown.model_copy(update=changes)
    event = Event(type="job.succeeded", timestamp=datetime.now(UTC), data=view)
    return event.model_dump_json().encode()


def test_it_takes_a_real_delivery(site: Site, outbox: Outbox) -> None:
    job = told(outbox, site)
    assert [attempt["status_code"] for attempt in outbox.attempts()] == [204]
    assert site.version(job) == job.version
    (link,) = site.published(job)
    assert link.startswith(f"{BASE_URL}/v1/jobs/{job.public_id}/content?variant=video&link=")


def test_it_does_nothing_twice_for_one_delivery(site: Site, outbox: Outbox) -> None:
    job = told(outbox, site)
    outbox.run("UPDATE deliveries SET status = 'pending', next_at = clock_timestamp()")
    outbox.sender().tried(1)
    assert [attempt["status_code"] for attempt in outbox.attempts()] == [204, 204]
    assert len(site.published(job)) == 1


def test_an_older_state_that_comes_late_changes_nothing(site: Site, outbox: Outbox) -> None:
    job = told(outbox, site)
    late = body_of(job, version=job.version - 1, status=Status.RUNNING, output=None)
    assert post(site, late).status_code == 204
    assert site.version(job) == job.version
    assert post(site, body_of(job, version=job.version + 1)).status_code == 204


def test_a_receiver_with_the_old_secret_takes_what_comes_during_a_rotation(
    site: Site, outbox: Outbox
) -> None:
    endpoint_id = outbox.endpoint(site.url)
    outbox.run(
        "UPDATE webhook_endpoints SET previous_secret = :old,"
        " previous_secret_until = clock_timestamp() + interval '1 day' WHERE id = :id",
        old=site.secret,
        id=endpoint_id,
    )
    job = outbox.finish(metadata={"post_id": POST_ID})
    outbox.sender().tried(1)
    assert outbox.row()["status"] == "delivered"
    assert site.version(job) == job.version


def test_what_we_did_not_sign_or_not_lately_is_refused(site: Site, outbox: Outbox) -> None:
    body = body_of(outbox.finish(metadata={"post_id": POST_ID}))
    assert post(site, body, key=new_secret()).status_code == 401
    assert post(site, body, age=timedelta(minutes=6)).status_code == 401
    assert requests.post(site.url, body, timeout=60).status_code == 401
    assert list(site.clips.glob("*.*")) == []


def test_a_test_send_is_taken(site: Site) -> None:
    assert post(site, b'{"type": "webhook.test", "data": {"message": "hi"}}').status_code == 204
