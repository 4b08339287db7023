"""The `camera` engine: camera moves over the image, read from the prompt; no model."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np

from shared.engines.spec import EngineSpec, Honours, Licence, Preset, Resolution, Shape
from shared.lifecycle import Stage
from shared.settings import Settings
from worker.engines.base import Frames, Image, OnProgress, OnStep, Plan, RenderRequest, Step
from worker.engines.camera.lens import Lens
from worker.engines.camera.path import Pose, follow
from worker.engines.camera.read_prompt import read_moves
from worker.engines.framing import backdrop, place, put

SPEC: Final = EngineSpec(
    name="camera",
    title="Camera moves",
    description=(
        "Moves a camera over the image: push in, pull out, pan, tilt, roll, arc, handheld or"
        " still, slowly or quickly, several at once, as the prompt says in English or Chinese."
        " Nothing in the image moves by itself and nothing is generated."
    ),
    revision="camera-2",
    ai_generated=False,
    uses_prompt=True,
    prompt_languages=("en", "zh"),
    uses_steps=False,
    uses_guidance=False,
    needs_gpu=False,
    shape=Shape.KEEP,
    multiple=2,
    max_side=3072,
    honours=(Honours.FOCUS, Honours.BLUR),
    presets=(
        Preset(name="standard", resolution=Resolution.P512, num_frames=16, fps=8),
        Preset(name="smooth", resolution=Resolution.P512, num_frames=32, fps=16),
        Preset(name="large", resolution=Resolution.P1024, num_frames=32, fps=16),
    ),
    licence=Licence(
        name="Apache-2.0",
        url="https://www.apache.org/licenses/LICENSE-2.0",
        commercial_use="yes",
        note="part of Stillreel; there is no model and there are no weights",
    ),
)
CHUNK: Final = 4  # A stop is noticed within this many frames: some 0.1 s at 512p.
# Pillow draws outside the interpreter's lock. At most four, because the host also encodes and
# serves.
THREADS: Final = min(4, os.cpu_count() or 1)


class CameraEngine:
    """Renders the moves that `read_moves` finds; the seed decides how a handheld camera shakes."""

    spec = SPEC

    def __init__(self, settings: Settings) -> None:
        pass

    def load(self, device: str, on_progress: OnProgress) -> None:
        """Do nothing, because there is no model."""

    def plan(self, request: RenderRequest) -> Plan:
        understood = read_moves(request.parameters.prompt)
        return {
            "moves": tuple(move.name.value for move in understood.moves),
            "speeds": tuple(move.speed.value for move in understood.moves),
            "default_move": understood.is_default,
            "ai_generated": False,
        }

    def render(self, request: RenderRequest, on_step: OnStep) -> Iterator[Frames]:
        asked = request.parameters
        placement = place(
            request.image.shape[1],
            request.image.shape[0],
            width=asked.width,
            height=asked.height,
            fit=asked.fit,
        )
        poses = follow(
            read_moves(asked.prompt).moves,
            width=placement.width,
            height=placement.height,
            num_frames=asked.num_frames,
            fps=asked.fps,
            seed=asked.seed,
            focus=placement.fractions(*asked.focus, image=request.image),
        )
        under = backdrop(request.image, width=asked.width, height=asked.height, fit=asked.fit)
        lens = Lens(request.image, placement, poses)

        def draw(pose: Pose) -> Image:
            return put(lens.frame(pose), placement, under)

        with ThreadPoolExecutor(THREADS, thread_name_prefix="camera") as pool:
            for first in range(0, len(poses), CHUNK):
                frames = np.stack(list(pool.map(draw, poses[first : first + CHUNK])))
                on_step(Step(first + len(frames), len(poses), Stage.DECODING))
                yield frames

    def unload(self) -> None:
        """Do nothing, because nothing was loaded."""
