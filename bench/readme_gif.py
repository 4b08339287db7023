"""The README's GIF: the sample photo through the camera engine and the worker's own video code.

It shows what `make demo` asks for, smaller and longer. Run `python -m bench.readme_gif`: it needs
no service and no GPU, and writes `docs/readme.gif`.
"""

import tempfile
import time
from pathlib import Path
from typing import Final

import numpy as np
import PIL.Image

from local.demo import PROMPT
from shared.engines.parameters import RequestedParameters, resolve_parameters
from shared.settings import Settings
from worker.engines import build
from worker.engines import chosen as chosen_engines
from worker.engines.base import RenderRequest, Step
from worker.video.check import check_video
from worker.video.metadata import Tags
from worker.video.previews import gif
from worker.video.writer import Mp4Writer

ROOT: Final = Path(__file__).parents[1]
PHOTO: Final = ROOT / "samples" / "coffee.jpg"
GIF: Final = ROOT / "docs" / "readme.gif"
ASKED: Final = RequestedParameters(prompt=PROMPT, width=432, num_frames=28, fps=10)
MAX_BYTES: Final = 2_500_000  # What a project page should cost a phone.


def render_gif() -> bytes:
    """Return the photo in motion, as a worker would make it."""
    photo = np.asarray(PIL.Image.open(PHOTO).convert("RGB"))
    engine = build(chosen_engines("camera", has_gpu=False)["camera"], Settings())
    engine.load("cpu", _ignore_progress)
    height, width, _ = photo.shape
    chosen = resolve_parameters(engine.spec, ASKED, image_width=width, image_height=height, seed=0)
    size = {"width": chosen.width, "height": chosen.height}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        tags = Tags(settings=chosen.model_dump(mode="json"))
        with Mp4Writer(path, **size, fps=chosen.fps, tags=tags) as writer:
            for frames in engine.render(RenderRequest(photo, chosen), _ignore_step):
                writer.write(frames)
        facts = check_video(
            path, **size, num_frames=chosen.num_frames, fps=chosen.fps, allow_one_colour=False
        )
        return gif(path, facts)


def main() -> None:
    started = time.monotonic()
    data = render_gif()
    if len(data) > MAX_BYTES:
        raise SystemExit(f"the GIF has {len(data)} bytes; at most {MAX_BYTES} are welcome")
    GIF.write_bytes(data)
    print(f"{GIF.relative_to(ROOT)}: {len(data)} bytes in {time.monotonic() - started:.1f} s")


def _ignore_progress(fraction: float, what: str) -> None:
    """Nobody watches."""


def _ignore_step(step: Step) -> None:
    """Nobody watches."""


if __name__ == "__main__":
    main()
