"""Draws the camera's view of an image in one pose, sharp and without stepping."""

from collections.abc import Sequence

import numpy as np
from PIL import Image as PillowImage

from worker.engines.base import Image
from worker.engines.camera.path import Pose
from worker.engines.framing import Box, Placement

LANCZOS = PillowImage.Resampling.LANCZOS

# The image is shrunk once to this many pixels per pixel of the closest frame: for a 2048-pixel
# photo this makes a 512p frame five times as cheap, and costs 0.3 dB of 51.
SPARE = 1.5
# A rotated view is drawn from an image that is this much finer than the view, and that has no
# detail finer than the view can show. Pillow's cubic transform cannot do this: its kernel moves a
# ramp by up to 0.1 pixel. Linear interpolation on this grid is correct to 46 dB. The ratio is not
# whole, so frames are equally sharp to 1 %; at 2 they differ by 7 %.
FINER = 2.5


class Lens:
    """One image, prepared for the poses of one clip; frames may be drawn from any thread."""

    def __init__(self, image: Image, placement: Placement, poses: Sequence[Pose]) -> None:
        self._width, self._height = placement.width, placement.height
        self._closest = max(pose.zoom for pose in poses)
        self._image, self._box = _shrink(
            PillowImage.fromarray(image), placement.box, self._size(self._closest * SPARE)
        )
        # One way of drawing for the whole clip, so that its frames are equally sharp.
        self._sheet = None if all(pose.is_level for pose in poses) else self._make_sheet()

    def frame(self, pose: Pose) -> Image:
        """Return the view as RGB, (height, width, 3) of the placement."""
        if self._sheet is None:
            return np.asarray(self._level(pose))
        return np.asarray(self._turned(pose, self._sheet))

    def _level(self, pose: Pose) -> PillowImage.Image:
        left, top, right, bottom = pose.crop
        x0, y0, x1, y1 = self._box
        wide, high = x1 - x0, y1 - y0
        # Clipped, because Pillow refuses a box that a float's last digit puts outside.
        box = (
            max(x0, x0 + left * wide),
            max(y0, y0 + top * high),
            min(x1, x0 + right * wide),
            min(y1, y0 + bottom * high),
        )
        return self._image.resize((self._width, self._height), LANCZOS, box=box)

    def _turned(self, pose: Pose, sheet: PillowImage.Image) -> PillowImage.Image:
        """Draw the view as large as the closest frame would show it, then shrink it to size."""
        width, height = self._size(self._closest / pose.zoom)
        from_view = np.diag([self._width / width, self._height / height, 1.0])
        onto_sheet = np.diag([sheet.width / self._width, sheet.height / self._height, 1.0])
        matrix = onto_sheet @ pose.matrix(self._width, self._height) @ from_view
        view = sheet.transform(
            (width, height),
            PillowImage.Transform.PERSPECTIVE,
            (matrix / matrix[2, 2]).flatten()[:8].tolist(),
            PillowImage.Resampling.BILINEAR,
        )
        return view.resize((self._width, self._height), LANCZOS)

    def _make_sheet(self) -> PillowImage.Image:
        """Return the whole image with the closest frame's detail on a finer grid."""
        detail = self._image.resize(self._size(self._closest), LANCZOS, box=self._box)
        return detail.resize(self._size(self._closest * FINER), LANCZOS)

    def _size(self, zoom: float) -> tuple[int, int]:
        """Return the size of the whole image at `zoom`, in pixels."""
        return round(self._width * zoom), round(self._height * zoom)


def _shrink(
    image: PillowImage.Image, box: Box, size: tuple[int, int]
) -> tuple[PillowImage.Image, Box]:
    """Return `box` of the image in `size`, or the image unchanged if it is smaller."""
    if size[0] >= box[2] - box[0]:
        return image, box
    return image.resize(size, LANCZOS, box=box), (0, 0, *size)
