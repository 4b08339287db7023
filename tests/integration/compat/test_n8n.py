"""The workflow of docs/n8n.json: the test sends each node's requests as n8n would."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
import requests

from shared.errors import OutOfMemory
from tests.support import receiver as twin
from tests.support.gateway import ADMIN_KEY, FakeWorker, Gateway, beside, photo_png
from tests.support.receiver import Receiver
from tests.support.stack import ROOT

MOST_STEPS: Final = 50

_EXPRESSION: Final = re.compile(
    r"\{\{ (?:\$\('(?P<node>\w+)'\)\.item\.json|(?P<here>\$json)|\$execution)"
    r"\.(?P<path>[\w.]+) \}\}"
)


@dataclass
class Run:
    """One execution: the output of each node, and how the workflow ended."""

    workflow: Mapping[str, Any]
    settings: Mapping[str, str]
    outputs: dict[str, Any] = field(default_factory=dict)
    walked: list[str] = field(default_factory=list)
    stopped: str | None = None

    def play(self) -> None:
        """Follow the connections from the trigger to the last node."""
        nodes = {node["name"]: node for node in self.workflow["nodes"]}
        name: str | None = next(n for n, node in nodes.items() if "Trigger" in node["type"])
        item: Any = {}
        while name is not None:
            assert len(self.walked) < MOST_STEPS, self.walked
            self.walked.append(name)
            node = nodes[name]
            item, exit_number = self._do(node, item)
            self.outputs[name] = item
            name = self._next(name, exit_number)

    def _do(self, node: Mapping[str, Any], item: Any) -> tuple[Any, int]:
        given = node["parameters"]
        match node["type"].rpartition(".")[2]:
            case "set":
                named = given["assignments"]["assignments"]
                return {each["name"]: self.settings.get(each["name"]) for each in named}, 0
            case "httpRequest":
                return self._request(given, item), 0
            case "switch":
                return item, self._exit(given, item)
            case "stopAndError":
                self.stopped = self._value(given["errorMessage"], item)
                return item, 0
            case "wait" | "manualTrigger":
                return item, 0
        raise AssertionError(node["type"])

    def _request(self, given: Mapping[str, Any], item: Any) -> Any:
        def pairs(name: str) -> dict[str, str]:
            found = given.get(name, {"parameters": []})["parameters"]
            return {each["name"]: self._value(each["value"], item) for each in found}

        answer = requests.request(
            given["method"],
            self._value(given["url"], item),
            headers={**pairs("headerParameters"), "Authorization": f"Bearer {ADMIN_KEY}"},
            params=pairs("queryParameters"),
            data=pairs("bodyParameters") or None,
            timeout=60,
        )
        answer.raise_for_status()  # n8n stops at any other status.
        is_file = given["options"].get("response", {}).get("response", {}).get("responseFormat")
        return {"binary": answer.content} if is_file == "file" else answer.json()

    def _exit(self, given: Mapping[str, Any], item: Any) -> int:
        rules = given["rules"]["values"]
        for number, rule in enumerate(rules):
            conditions = rule["conditions"]
            holds = [
                self._value(each["leftValue"], item) == each["rightValue"]
                for each in conditions["conditions"]
            ]
            if (any if conditions["combinator"] == "or" else all)(holds):
                return number
        assert given["options"]["fallbackOutput"] == "extra"
        return len(rules)

    def _next(self, name: str, exit_number: int) -> str | None:
        exits = self.workflow["connections"].get(name, {"main": []})["main"]
        return exits[exit_number][0]["node"] if exits else None

    def _value(self, text: str, item: Any) -> str:
        """Return the value that n8n makes of a parameter: an expression begins with `=`."""
        if not text.startswith("="):
            return text

        def found(match: re.Match[str]) -> str:
            if match["node"] is None and match["here"] is None:
                return "77"  # The execution's number.
            value = self.outputs[match["node"]] if match["node"] else item
            for key in match["path"].split("."):
                value = (value or {}).get(key)
            return str(value)

        filled = _EXPRESSION.sub(found, text[1:])
        assert "{{" not in filled, f"an expression this test cannot read: {text}"
        return filled


@pytest.fixture
def run(keyed_gateway: Gateway, receiver: Receiver) -> Run:
    receiver.script("/photo.jpg", twin.status(200, photo_png()))
    workflow = json.loads((ROOT / "docs" / "n8n.json").read_text())
    settings = {
        "gateway": keyed_gateway.url,
        "image_url": receiver.url("/photo.jpg"),
        "prompt": "slow push in",
    }
    return Run(workflow, settings)


def test_the_workflow_brings_the_clip(run: Run, fake_worker: FakeWorker) -> None:
    playing = beside(run.play)
    claimed = fake_worker.claim()
    assert claimed.parameters.prompt == "slow push in"
    fake_worker.complete(claimed, b"the clip")
    playing.result(timeout=60)
    assert run.walked[-1] == "Download"
    assert run.outputs["Download"]["binary"] == b"the clip"
    assert run.stopped is None


def test_the_workflow_waits_on_while_the_job_runs(
    run: Run, fake_worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = next(node for node in run.workflow["nodes"] if node["name"] == "Look")
    look["parameters"]["queryParameters"]["parameters"][0]["value"] = "1"
    playing = beside(run.play)
    claimed = fake_worker.claim()
    while run.walked.count("Wait") < 2:
        fake_worker.beat(claimed, 5)
    fake_worker.complete(claimed)
    playing.result(timeout=60)
    assert run.walked[-1] == "Download"


def test_the_workflow_stops_with_the_jobs_error(run: Run, fake_worker: FakeWorker) -> None:
    playing = beside(run.play)
    fake_worker.fail(fake_worker.claim(), OutOfMemory("the clip is too large"))
    playing.result(timeout=60)
    assert run.walked[-1] == "Stop"
    assert run.stopped == "the job failed: the clip is too large"


def test_every_node_is_reached_by_some_connection(run: Run) -> None:
    names = {node["name"] for node in run.workflow["nodes"]}
    targets = {
        link["node"]
        for outputs in run.workflow["connections"].values()
        for exits in outputs["main"]
        for link in exits
    }
    assert targets == names - {"Start"}
