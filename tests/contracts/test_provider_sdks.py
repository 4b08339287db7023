"""Check simulated providers and our bodies with the official SDKs; only this file uses them."""

import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from shared.engines.parameters import RenderParameters
from shared.engines.spec import Fit
from tests.support.providers.fal import FalService
from tests.support.providers.runway import CREDITS, RunwayService
from tests.support.providers.service import KEY
from tests.support.sdks import done, python_with
from worker.engines.remote.fal import wire as fal_wire
from worker.engines.remote.fal.models import MODELS as FAL_MODELS
from worker.engines.remote.runway import wire as runway_wire
from worker.engines.remote.runway.models import MODELS as RUNWAY_MODELS
from worker.engines.remote.runway.models import SILENT

pytestmark = [pytest.mark.extended, pytest.mark.timeout(900)]  # The first run installs the SDKs.

RUNWAY = "runwayml==5.24.0"
FAL = "fal-client==1.0.3"
FILM = b"a film"
IMAGE = "data:image/png;base64,AAAA"

RUNWAY_SCRIPT = """
import json, os, sys, urllib.request
from runwayml import RunwayML, NotFoundError, AuthenticationError, TaskFailedError
address, bodies = sys.argv[1], json.loads(sys.argv[2])
client = RunwayML(base_url=address, api_key=os.environ["KEY"], max_retries=0,
                  _strict_response_validation=True)
def create(body):
    return client.image_to_video.create(**{
        {"promptImage": "prompt_image", "promptText": "prompt_text",
         "negativePrompt": "negative_prompt"}.get(name, name): value
        for name, value in body.items()})
made = [create(body) for body in bodies]
states = []
task = client.tasks.retrieve(made[0].id)
while task.status not in ("SUCCEEDED", "FAILED"):
    states.append(task.status)
    task = client.tasks.retrieve(made[0].id)
film = urllib.request.urlopen(task.output[0]).read().decode()
client.tasks.delete(made[1].id)
try:
    client.tasks.retrieve(made[1].id)
    gone = False
except NotFoundError:
    gone = True
try:
    RunwayML(base_url=address, api_key="wrong", max_retries=0).tasks.retrieve(made[0].id)
    refused = ""
except AuthenticationError as error:
    refused = error.body["error"]
print(json.dumps({"states": states, "film": film, "cost": task.cost.credits, "gone": gone,
                  "estimate": made[0].estimated_cost.credits, "refused": refused}))
"""

RUNWAY_TYPES = """
import json, typing
from runwayml.types import image_to_video_create_params as params
def literals(hint):
    if isinstance(hint, (str, int)):
        return [hint]
    return [each for part in typing.get_args(hint) for each in literals(part)]
found = {}
for kind in vars(params).values():
    fields = getattr(kind, "__annotations__", {})
    if "model" in fields and "prompt_image" in fields:
        hints = typing.get_type_hints(kind)
        values = {name: literals(hint) for name, hint in hints.items()}
        found[values["model"][0]] = {
            "ratios": values.get("ratio"), "durations": values.get("duration"),
            "fields": sorted(hints), "required": [name for name, hint in fields.items()
                if getattr(hint, "__forward_arg__", str(hint)).startswith("Required")]}
print(json.dumps(found))
"""

FAL_SCRIPT = """
import json, sys, urllib.request, ssl, os
import fal_client
bodies = json.loads(sys.argv[1])
client = fal_client.SyncClient(key=os.environ["KEY"])
handles = [client.submit(app, body) for app, body in bodies]
kinds = [type(state).__name__ for state in handles[0].iter_events(interval=0.01)]
video = handles[0].get(interval=0.01)["video"]
context = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
film = urllib.request.urlopen(video["url"], context=context).read().decode()
again = client.result(bodies[0][0], handles[0].request_id)["video"]["url"]
client.cancel(bodies[1][0], handles[1].request_id)
canceled = client.status(bodies[1][0], handles[1].request_id)
print(json.dumps({"kinds": kinds, "film": film, "same": again == video["url"],
                  "canceled": canceled.error_type}))
"""


def asked(**changes: Any) -> RenderParameters:
    values: dict[str, Any] = {
        "prompt": "the tide comes in",
        "negative_prompt": "text",
        "resolution": None,
        "width": 1280,
        "height": 720,
        "fit": Fit.CROP,
        "num_frames": 120,
        "fps": 24,
        "num_inference_steps": 1,
        "guidance_scale": 1.0,
        "seed": 7,
    }
    return RenderParameters(**values | changes)


@pytest.fixture
def runway() -> Iterator[RunwayService]:
    with RunwayService(FILM) as service:
        yield service


def test_the_stand_in_for_runway_speaks_as_its_official_sdk_hears(
    runway: RunwayService, tmp_path: Path
) -> None:
    runway.looks_needed = 3
    bodies = [
        runway_wire.create_body(model, asked(), first=IMAGE, last=IMAGE if last else None)
        for model in RUNWAY_MODELS.values()
        for last in {False, model.takes_last_frame}
    ]
    command = [python_with(RUNWAY), "-c", RUNWAY_SCRIPT, runway.url, json.dumps(bodies)]
    said = json.loads(done(command, tmp_path, KEY=KEY))
    assert said == {
        "states": ["PENDING", "RUNNING"],
        "film": FILM.decode(),
        "cost": CREDITS,
        "estimate": CREDITS,
        "gone": True,
        "refused": "The API key that was provided is not valid.",
    }
    # The official client sends the same as ours, field by field.
    assert [task.body for task in runway.tasks.values()] == bodies
    sent = runway.asked("POST")[0].headers
    assert sent["x-runway-version"] == runway_wire.VERSION


def test_runways_models_are_as_its_official_sdk_has_them(tmp_path: Path) -> None:
    known = json.loads(done([python_with(RUNWAY), "-c", RUNWAY_TYPES], tmp_path))
    for model in RUNWAY_MODELS.values():
        theirs = known[model.name]
        assert {f"{width}:{height}" for width, height in model.sizes} <= set(theirs["ratios"])
        assert ("seed" in theirs["fields"]) >= model.takes_seed
        assert ("negative_prompt" in theirs["fields"]) == model.takes_negative_prompt
        assert ("audio" in theirs["fields"]) == (model.name in SILENT)
        assert ("prompt_text" in theirs["required"]) == model.prompt_required
        if theirs["durations"]:
            assert {"auto"} == set(theirs["durations"]) or set(model.seconds) == set(
                theirs["durations"]
            )
        body = runway_wire.create_body(model, asked(), first=IMAGE)
        snake = {"promptImage": "prompt_image", "promptText": "prompt_text"}
        snake["negativePrompt"] = "negative_prompt"
        names = {snake.get(name, name) for name in body}
        assert set(theirs["required"]) <= names <= set(theirs["fields"])


def test_the_stand_in_for_fal_speaks_as_its_official_client_hears(tmp_path: Path) -> None:
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    bodies = [
        (model.name, fal_wire.create_body(model, asked(), first=IMAGE))
        for model in FAL_MODELS.values()
    ]
    with FalService(FILM, tls=tls) as fal:
        fal.looks_needed = 3
        command = [python_with(FAL), "-c", FAL_SCRIPT, json.dumps(bodies)]
        env = {"KEY": KEY, "FAL_QUEUE_RUN_HOST": fal.host}
        said = json.loads(done(command, tmp_path, SSL_CERT_FILE=str(tmp_path / "ca.pem"), **env))
        assert said == {
            "kinds": ["Queued", "InProgress", "Completed"],
            "film": FILM.decode(),
            "same": True,
            "canceled": "client_cancelled",
        }
        heard = [task.body for task in fal.tasks.values()]
        assert heard == [{**body, "app": app} for app, body in bodies]
        first = next(iter(fal.tasks.values()))
        path = fal_wire.request_path(bodies[0][0], first.id)
        assert fal.asked("GET", f"{path}/status")
