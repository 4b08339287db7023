"""`make demo`: one sample photo through the running service, with its clip saved in `outputs/`."""

import os
import sys
from pathlib import Path
from typing import Any, Final

import httpx2
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from local.app_processes import ROOT, gateway_address
from local.cli_settings import given_place, read_settings
from local.processes.process import CannotStart
from local.state import State
from shared.lifecycle import TERMINAL
from shared.settings import Settings

PROMPT: Final = "Slow push in while the camera pans gently to the right"
WAIT_SECONDS: Final = 10
OUTPUTS: Final = Path("outputs")


class DemoFailed(Exception):
    """The message is one sentence for the person who ran it."""


def main() -> int:
    console = Console(highlight=False, soft_wrap=True)
    try:
        settings = read_settings()
        address, headers = find_gateway(settings), key_header(settings)
        with httpx2.Client(
            base_url=address, headers=headers, timeout=30, trust_env=False
        ) as client:
            photo = min((ROOT / "samples").glob("*.jpg"))
            clip = make_clip(client, photo, PROMPT, console)
    except httpx2.ConnectError:
        console.print(f"nothing answers at {address}; start it in another terminal: make run")
        return 1
    except (CannotStart, DemoFailed, httpx2.HTTPError) as error:
        console.print(f"stillreel: {error}", markup=False)
        return 1
    console.print(str(clip), markup=False)
    return 0


def find_gateway(settings: Settings) -> str:
    """Return the address in PORT or HOST, else that of the last `make run` on this data folder."""
    last = "" if given_place() else State.load(settings.data_dir.absolute()).gateway
    return last or gateway_address(settings)


def key_header(settings: Settings) -> dict[str, str]:
    """Return the header with the key: KEY of the environment, else the admin's key, else none."""
    admin = settings.admin_key
    key = os.environ.get("KEY") or (admin and admin.get_secret_value())
    return {"Authorization": f"Bearer {key}"} if key else {}


def make_clip(client: httpx2.Client, photo: Path, prompt: str, console: Console) -> Path:
    """Submit the photo, show the job's progress, and return the path of its clip."""
    console.print(f"{photo.name}: {prompt}", markup=False)
    with photo.open("rb") as image:
        job = _json(client.post("/v1/jobs", files={"image": image}, data={"prompt": prompt}))
    job = _follow(client, job["id"], console)
    if job["status"] != "succeeded":
        raise DemoFailed(f"the job {job['status']}: {(job['error'] or {}).get('message', '')}")
    content = client.get(f"/v1/jobs/{job['id']}/content", follow_redirects=True)
    content.raise_for_status()
    return _keep(content.content, OUTPUTS / f"{job['id']}.mp4")


def _keep(content: bytes, clip: Path) -> Path:
    """Write the clip completely or not at all.

    Raises:
        DemoFailed: there is no room for it, or its folder may not be written to.
    """
    try:
        clip.parent.mkdir(exist_ok=True)
        try:
            clip.write_bytes(content)
        except OSError:
            clip.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise DemoFailed(
            f"the clip could not be kept as {clip.absolute()} ({error.strerror}); the service"
            " still has it, and its page shows it"
        ) from error
    return clip


def _follow(client: httpx2.Client, job_id: str, console: Console) -> dict[str, Any]:
    """Return the job once it has ended; each answer comes when there is something new to show."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    seen = ""
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("queued", total=100)
        while True:
            answer = client.get(
                f"/v1/jobs/{job_id}",
                params={"wait": WAIT_SECONDS if seen else 0},
                headers={"If-None-Match": seen},
            )
            if answer.status_code == httpx2.codes.NOT_MODIFIED:
                continue
            job = _json(answer)
            seen = answer.headers.get("ETag", "")
            doing = f"{job['status']} {job['stage'] or ''}".strip()
            progress.update(bar, description=doing, completed=job["progress"]["percent"])
            if job["status"] in TERMINAL:
                return job


def _json(answer: httpx2.Response) -> dict[str, Any]:
    """Return the body.

    Raises:
        DemoFailed: the service refused; the message is its own.
    """
    try:
        body: dict[str, Any] = answer.json()
    except ValueError as error:
        raise DemoFailed(
            f"{answer.url} answered {answer.status_code}, and not in JSON; is it Stillreel?"
        ) from error
    if answer.status_code == httpx2.codes.UNAUTHORIZED:
        raise DemoFailed("the service needs an API key now; give it one: KEY=sr_… make demo")
    if answer.is_error:
        raise DemoFailed(str(body.get("detail") or body.get("title") or answer.status_code))
    return body


if __name__ == "__main__":
    sys.exit(main())
