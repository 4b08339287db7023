"""A remote server, simulated in memory: it does what a test says, and counts its requests."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import av
import numpy as np

from shared.engines.parameters import RenderParameters
from shared.engines.spec import Fit
from worker.engines.base import Checkpoint, Image, RenderRequest
from worker.engines.remote.errors import TaskVanished
from worker.engines.remote.provider import Created, Found, Look, OnBytes, TaskState

WIDTH: Final = 96
HEIGHT: Final = 64
FRAMES: Final = 8
FPS: Final = 8


class Elsewhere:
    """A provider; the next calls of a name raise the errors in `trouble`, in turn."""

    def __init__(self, name: str = "first", *, is_paid: bool = True, clip: bytes = b"") -> None:
        self.name = name
        self.is_paid = is_paid
        self.clip = clip or mp4(moving(FRAMES), fps=FPS)
        self.asked: list[tuple[str, Any]] = []
        self.tasks: dict[str, list[Look]] = {}
        self.trouble: dict[str, Sequence[Exception | None]] = {}
        self.after_create: Callable[[], None] = lambda: None
        self.looks = [Look(TaskState.RENDERING, progress=0.5), Look(TaskState.DONE)]
        self.found = Found()
        self.may_cost: bool | None = False

    def count(self, name: str) -> int:
        return sum(asked == name for asked, _ in self.asked)

    def create(self, request: RenderRequest, key: str) -> Created:
        self._meet("create", key)
        task = f"{self.name}-{len(self.tasks) + 1}"
        self.tasks[task] = list(self.looks)
        self.after_create()
        return Created(task)

    def find(self, request: RenderRequest, key: str) -> Found:
        self._meet("find", key)
        return self.found

    def look(self, task: str) -> Look:
        self._meet("look", task)
        looks = self._task(task)
        return looks.pop(0) if len(looks) > 1 else looks[0]

    def cancel(self, task: str) -> bool | None:
        self._meet("cancel", task)
        return self.may_cost

    def download(self, task: str, look: Look, into: Path, on_bytes: OnBytes) -> None:
        self._meet("download", task)
        self._task(task)
        into.write_bytes(self.clip)
        on_bytes(len(self.clip), len(self.clip))

    def _task(self, task: str) -> list[Look]:
        if task not in self.tasks:
            raise TaskVanished(f"there is no task {task}")
        return self.tasks[task]

    def _meet(self, name: str, what: Any) -> None:
        self.asked.append((name, what))
        error, *self.trouble[name] = self.trouble.get(name) or [None]
        if error is not None:
            raise error


def request(checkpoint: Checkpoint, **values: Any) -> RenderRequest:
    """Return a request for a small clip, whose notes are kept where a test says."""
    asked = {
        "prompt": "the steam rises",
        "negative_prompt": "",
        "resolution": None,
        "width": WIDTH,
        "height": HEIGHT,
        "fit": Fit.CROP,
        "num_frames": FRAMES,
        "fps": FPS,
        "num_inference_steps": 4,
        "guidance_scale": 3.0,
        "seed": 7,
    }
    image: Image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    parameters = RenderParameters(**(asked | values))
    return RenderRequest(image, parameters, job="job_1", checkpoint=checkpoint)


def moving(count: int, *, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray[Any, Any]:
    """Return frames from dark to light, each with a gradient across, so that each is unique."""
    levels = np.linspace(40, 190, count)[:, None, None, None]
    slope = np.linspace(0, 40, width)[None, None, :, None]
    return np.broadcast_to(levels + slope, (count, height, width, 3)).astype(np.uint8)


def mp4(frames: np.ndarray[Any, Any], *, fps: int) -> bytes:
    import io

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as made:
        stream = made.add_stream("libx264", rate=fps)
        stream.width, stream.height = frames.shape[2], frames.shape[1]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            made.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        made.mux(stream.encode())
    return file.getvalue()
