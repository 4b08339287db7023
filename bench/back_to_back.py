"""Measures how long the device rests between clips that a worker renders one after another."""

import statistics
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.gauges import held_bytes, mark, seconds_between, synchronize
from bench.report import BackToBack
from worker.engines.base import RenderRequest, Step
from worker.engines.i2vgen.compiled import Compiled
from worker.engines.i2vgen.pipeline import render_clip
from worker.engines.i2vgen.weights import Model
from worker.video.metadata import Tags
from worker.video.writer import Mp4Writer


class Watch:
    """Marks the first and the last work of a clip on the device."""

    def __init__(self, model: Model) -> None:
        self.spans: list[tuple[Any, Any]] = []
        self._model = model
        self._began: Any = None
        # The text encoder is a clip's first work on the device.
        self._hook = model.text_encoder.register_forward_pre_hook(self._begin)

    def on_step(self, step: Step) -> None:
        if step.stage == "decoding" and step.index == step.total:
            self.spans.append((self._began, mark(self._model.device)))
            self._began = None

    def close(self) -> None:
        self._hook.remove()

    def _begin(self, *_: Any) -> None:
        if self._began is None:
            self._began = mark(self._model.device)


def back_to_back(
    model: Model,
    requests: Sequence[RenderRequest],
    folder: Path,
    compiled: Compiled | None = None,
    *,
    arm: str,
) -> BackToBack:
    """Render the requests one after another; each MP4 is finished while the next clip renders."""
    watch = Watch(model)
    held, tail = [], threading.Thread()
    began = time.perf_counter()
    for number, request in enumerate(requests):
        writer = _writer(request, folder / f"{number % 2}.mp4")
        for frames in render_clip(model, request, watch.on_step, compiled=compiled):
            writer.write(frames)
        if tail.ident is not None:
            tail.join()  # It has one slot, as a worker has.
        tail = threading.Thread(target=writer.close)
        tail.start()
        held.append(held_bytes(model.device))
    synchronize(model.device)
    seconds = (time.perf_counter() - began) / len(requests)
    tail.join()
    watch.close()
    pairs = zip(watch.spans, watch.spans[1:], strict=False)
    idle = statistics.median(seconds_between(ended, begun) for (_, ended), (begun, _) in pairs)
    growth = float(np.polyfit(range(len(held)), held, 1)[0])
    return BackToBack(arm, len(requests), idle, 100 * idle / seconds, growth)


def _writer(request: RenderRequest, path: Path) -> Mp4Writer:
    given = request.parameters
    return Mp4Writer(
        path, width=given.width, height=given.height, fps=given.fps, tags=Tags(settings={})
    )
