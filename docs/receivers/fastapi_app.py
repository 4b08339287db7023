"""Receive webhooks in FastAPI.

pip install fastapi uvicorn standardwebhooks
STILLREEL_WEBHOOK_SECRET=whsec_... uvicorn fastapi_app:app --port 8000
"""

import json
import os
import threading
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from standardwebhooks import Webhook, WebhookVerificationError

webhook = Webhook(os.environ["STILLREEL_WEBHOOK_SECRET"])
clips = Path(os.environ.get("CLIPS_DIR", "clips"))
clips.mkdir(exist_ok=True)
one_at_a_time = threading.Lock()
app = FastAPI()


@app.post("/stillreel", status_code=204)
async def receive(request: Request) -> None:
    # The raw bytes are signed: a pydantic body would be other bytes.
    body = await request.body()
    try:
        event = webhook.verify(body, dict(request.headers))
    except WebhookVerificationError as error:
        raise HTTPException(401, "the signature does not verify") from error
    await run_in_threadpool(take, event, request.headers["webhook-id"])


def take(event: dict[str, Any], delivery_id: str) -> None:
    with one_at_a_time:
        seen = clips / f"{delivery_id}.seen"
        if seen.exists() or not event["type"].startswith("job."):
            return
        job = event["data"]
        known = clips / f"{job['id']}.json"
        # Deliveries may overtake each other: the higher version is the newer state.
        if not known.exists() or json.loads(known.read_text())["version"] < job["version"]:
            known.write_text(json.dumps(job))
            if job["status"] == "succeeded":
                publish(job)
        seen.touch()


def publish(job: dict[str, Any]) -> None:
    """Do here what your site does with a finished clip. Download it: the link ends after a day."""
    with (clips / "published.txt").open("a") as file:
        file.write(f"{job['id']} {job['output']['video']['url']}\n")
