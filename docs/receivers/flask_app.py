"""Receive webhooks in Flask.

pip install flask standardwebhooks
STILLREEL_WEBHOOK_SECRET=whsec_... flask --app flask_app run --port 8000
"""

import json
import os
import threading
from pathlib import Path
from typing import Any

from flask import Flask, request
from standardwebhooks import Webhook, WebhookVerificationError

webhook = Webhook(os.environ["STILLREEL_WEBHOOK_SECRET"])
clips = Path(os.environ.get("CLIPS_DIR", "clips"))
clips.mkdir(exist_ok=True)
one_at_a_time = threading.Lock()
app = Flask(__name__)


@app.post("/stillreel")
def receive() -> tuple[str, int]:
    try:
        # The raw bytes are signed: JSON that was parsed and written again is other bytes.
        event = webhook.verify(request.get_data(), dict(request.headers))
    except WebhookVerificationError:
        return "the signature does not verify", 401
    with one_at_a_time:
        take(event, request.headers["webhook-id"])
    return "", 204


def take(event: dict[str, Any], delivery_id: str) -> None:
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
