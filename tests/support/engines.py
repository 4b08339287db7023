"""The engine that fails on demand: the shipped twin for tests of everything around engines."""

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.noop import NoopEngine
from shared.errors import DevicePoisoned, MissingWeights, NonFiniteFrames, OutOfMemory
from shared.lifecycle import Stage
from worker.engines.base import Frames, Image, OnProgress, OnStep, Plan, RenderRequest, Step

_ERRORS = {
    "oom": OutOfMemory("the clip does not fit; ask for 256p"),
    "nan": NonFiniteFrames("the model gave NaN; try another seed"),
    "weights": MissingWeights("there are no weights; set STILLREEL_MODEL_DIR"),
    "poison": DevicePoisoned("CUDA error: an illegal memory access was encountered"),
    "surprise": ValueError("nobody expected this"),
}


class ScriptedEngine(NoopEngine):
    """Does what the prompt says, such as `oom`, `steps=20 pause=0.1` or `exit`.

    A word with `once:` before it acts only on the first attempt that this machine sees, and
    `again=0.5` is the pause of every later one; the marker file of that job is in the folder
    STILLREEL_TEST_MARKS. `hold=NAME` stops at the first step until a file of that name is there.
    """

    spec = NoopEngine.spec.model_copy(
        update={"name": "scripted", "ai_generated": True, "uses_prompt": True, "needs_gpu": True}
    )

    def load(self, device: str, on_progress: OnProgress) -> None:
        time.sleep(float(os.environ.get("STILLREEL_TEST_LOAD_SECONDS", "0")))
        super().load(device, on_progress)

    def plan(self, request: RenderRequest) -> Plan:
        return {"cuda_visible_devices": os.environ.get("CUDA_VISIBLE_DEVICES", "unset")}

    def render(self, request: RenderRequest, on_step: OnStep) -> Iterator[Frames]:
        parameters = request.parameters
        script = parameters.prompt
        for word in script.split():
            self._act(word, parameters.seed)
        steps, pause = _number(script, "steps", 1), _number(script, "pause", 0)
        if "again=" in script and not _first_time(f"again-{parameters.seed}"):
            pause = _number(script, "again", pause)
        for index in range(int(steps)):
            time.sleep(pause)
            shown = _shown(index, int(steps)) if "show" in script.split() else None
            on_step(Step(index + 1, int(steps), preview=shown))
            if index == 0:
                _hold(script)
        shape = (parameters.num_frames, parameters.height, parameters.width, 3)
        if "black" in script.split():
            yield np.zeros(shape, np.uint8)
            return
        noise = np.random.default_rng(parameters.seed)
        yield noise.integers(0, 256, shape, np.uint8)
        on_step(Step(1, 1, stage=Stage.DECODING))

    def _act(self, word: str, seed: int) -> None:
        if word.startswith("once:"):
            word = word.removeprefix("once:")
            if not _first_time(f"{word}-{seed}"):
                return
        if word in _ERRORS:
            raise _ERRORS[word]
        if word == "exit":
            os._exit(137)
        if word == "hoard":
            np.ones(4 * 2**30, np.uint8)
        if word == "hang":
            time.sleep(3600)


class QuickEngine(ScriptedEngine):
    """A model that is loaded at once."""

    spec = ScriptedEngine.spec.model_copy(update={"name": "quick"})


class HeldLoadEngine(ScriptedEngine):
    """A model whose load ends when the file `may-load` is in STILLREEL_TEST_MARKS."""

    spec = ScriptedEngine.spec.model_copy(update={"name": "held"})

    def load(self, device: str, on_progress: OnProgress) -> None:
        while not Path(os.environ["STILLREEL_TEST_MARKS"], "may-load").exists():
            on_progress(0.5, "waiting for the test")
            time.sleep(0.02)
        super().load(device, on_progress)


class LateEngine(ScriptedEngine):
    """Cannot be built at this machine's first try."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        if _first_time("built"):
            raise RuntimeError("the card is not there yet")
        super().__init__(*arguments, **options)


def _shown(index: int, steps: int) -> Image:
    """Return an image that is brighter at each step."""
    return np.full((32, 48, 3), 255 * (index + 1) // steps, np.uint8)


def _first_time(mark: str) -> bool:
    try:
        Path(os.environ["STILLREEL_TEST_MARKS"], mark).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _hold(script: str) -> None:
    match = re.search(r"hold=(\w+)", script)
    while match and not Path(os.environ["STILLREEL_TEST_MARKS"], match[1]).exists():
        time.sleep(0.01)


def _number(script: str, name: str, otherwise: float) -> float:
    match = re.search(rf"{name}=([\d.]+)", script)
    return float(match.group(1)) if match else otherwise
