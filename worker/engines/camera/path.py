"""Turns camera moves into one pose per frame that never looks past the image's edge."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt

from worker.engines.camera.moves import Move, MoveName, Speed

Matrix = npt.NDArray[np.float64]

Point = tuple[float, float]

MIDDLE: Final[Point] = (0.5, 0.5)
FIRST: Final = 0
LAST: Final = -1


@dataclass(frozen=True)
class Pose:
    """The camera's position in one frame, relative to facing the whole image.

    `zoom` 2 shows half of it; `x` and `y` move the view, in widths and heights of the image;
    `roll` turns the camera clockwise and `yaw` moves it around the image to the right, both in
    radians.
    """

    zoom: float = 1.0
    x: float = 0.0
    y: float = 0.0
    roll: float = 0.0
    yaw: float = 0.0

    @property
    def is_level(self) -> bool:
        return self.roll == 0 and self.yaw == 0

    @property
    def crop(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of a level view, as fractions of the image."""
        x, y, half = 0.5 + self.x, 0.5 + self.y, 0.5 / self.zoom
        return (x - half, y - half, x + half, y + half)

    def matrix(self, width: int, height: int) -> Matrix:
        """Return the homography from the frame's pixels to those of the whole image.

        Both are `width` x `height`, counted from their outer top left corner.
        """
        cos, sin = math.cos(self.roll), math.sin(self.roll)
        distance = DISTANCE * max(width, height)
        centred = np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1]])
        # A flat image seen from an orbit at this distance, with its middle kept in the middle.
        orbit = np.array(
            [[1 / math.cos(self.yaw), 0, 0], [0, 1, 0], [math.tan(self.yaw) / distance, 0, 1]]
        )
        turn = np.array(
            [[cos / self.zoom, -sin / self.zoom, 0], [sin / self.zoom, cos / self.zoom, 0],
             [0, 0, 1]]
        )  # fmt: skip
        place = np.array([[1, 0, (0.5 + self.x) * width], [0, 1, (0.5 + self.y) * height],
                          [0, 0, 1]])  # fmt: skip
        return place @ turn @ orbit @ centred


@dataclass(frozen=True)
class Travel:
    """A move at normal speed: from `start` to `end`, upright in its `anchor` frame.

    Alone, the move shows a plain crop of the image in that frame: all of it for a zoom, the edge
    where it starts for a pan or tilt, and its middle for the others.
    """

    start: Pose = Pose()
    end: Pose = Pose()
    anchor: int = FIRST


DISTANCE: Final = 1.5  # Of the orbit, in long sides: 37 degrees, about a 50 mm lens.
SLIDE: Final = 0.06  # In each direction, so a pan crosses 12 % of the image.
TURN: Final = math.radians(4)
ORBIT: Final = math.radians(15)
CLOSER: Final = 1.2
FARTHEST: Final = 0.35  # The middle of a frame stays this near to the middle of the image.

TRAVELS: Final[Mapping[MoveName, Travel]] = MappingProxyType(
    {
        MoveName.STILL: Travel(),
        MoveName.PUSH_IN: Travel(end=Pose(zoom=CLOSER)),
        MoveName.PULL_OUT: Travel(start=Pose(zoom=CLOSER), anchor=LAST),
        MoveName.PAN_LEFT: Travel(Pose(x=SLIDE), Pose(x=-SLIDE)),
        MoveName.PAN_RIGHT: Travel(Pose(x=-SLIDE), Pose(x=SLIDE)),
        MoveName.TILT_UP: Travel(Pose(y=SLIDE), Pose(y=-SLIDE)),
        MoveName.TILT_DOWN: Travel(Pose(y=-SLIDE), Pose(y=SLIDE)),
        MoveName.ROLL_CLOCKWISE: Travel(end=Pose(roll=TURN)),
        MoveName.ROLL_COUNTERCLOCKWISE: Travel(end=Pose(roll=-TURN)),
        MoveName.ARC_LEFT: Travel(end=Pose(yaw=-ORBIT)),
        MoveName.ARC_RIGHT: Travel(end=Pose(yaw=ORBIT)),
        MoveName.HANDHELD: Travel(),
    }
)
REACH: Final[Mapping[Speed, float]] = MappingProxyType(
    {Speed.SLOW: 0.5, Speed.NORMAL: 1.0, Speed.QUICK: 1.8}
)


def follow(
    moves: Sequence[Move],
    *,
    width: int,
    height: int,
    num_frames: int,
    fps: int,
    seed: int,
    focus: Point = MIDDLE,
) -> tuple[Pose, ...]:
    """Return the pose of each frame; a clip's length is fixed, so speed decides how far it goes.

    All moves run together over the whole clip. If they would show an area past the edge, one
    constant zoom over all frames avoids it, the smallest that is enough: it adds no motion.

    Args:
        focus: the point of the image, in fractions of it, that zooms, rolls and arcs leave in its
            place in the frame.
    """
    poses = [_pose(moves, ease(index / (num_frames - 1))) for index in range(num_frames)]
    for move in moves:
        if move.name is MoveName.HANDHELD:
            sway = _sway(num_frames, fps=fps, seed=seed, aspect=width / height)
            poses = [_shaken(p, REACH[move.speed] * s) for p, s in zip(poses, sway, strict=True)]
    if focus != MIDDLE:
        poses = _aimed(poses, focus, width, height)
    closer = max(_zoom_needed(pose, width, height) for pose in poses)
    poses = [replace(pose, zoom=pose.zoom * closer) for pose in poses]
    return tuple(poses if focus == MIDDLE else _shifted(poses, focus, closer, width, height))


def ease(u: float) -> float:
    """Return how much of a move is done at `u` of the clip: it is at rest at both ends."""
    return u * u * (3 - 2 * u)


def _pose(moves: Sequence[Move], done: float) -> Pose:
    """Return the sum of the moves; zooms multiply, so that they grow by equal ratios."""
    log_zoom = x = y = roll = yaw = 0.0
    for move in moves:
        travel, reach = TRAVELS[move.name], REACH[move.speed]
        before, after = reach * (1 - done), reach * done
        start, end = travel.start, travel.end
        log_zoom += before * math.log(start.zoom) + after * math.log(end.zoom)
        x += before * start.x + after * end.x
        y += before * start.y + after * end.y
        roll += before * start.roll + after * end.roll
        yaw += before * start.yaw + after * end.yaw
    return Pose(math.exp(log_zoom), x, y, roll, yaw)


def _aimed(poses: Sequence[Pose], focus: Point, width: int, height: int) -> list[Pose]:
    """Return the poses, moved so that zoom, roll and yaw leave the focus in its place.

    They act about the middle, where an arc's perspective cuts off least; the rest is a shift. In
    an image so long that a roll about its end would leave it, only a part of that shift is made.
    """
    shifts = np.array([_shift(pose, focus, width, height) for pose in poses])
    before = np.array([(pose.x, pose.y) for pose in poses])
    room = np.maximum(FARTHEST - np.abs(before), 0) / np.maximum(np.abs(shifts), 1e-9)
    shifts *= min(1.0, float(room.min()))
    return [
        replace(pose, x=pose.x + float(x), y=pose.y + float(y))
        for pose, (x, y) in zip(poses, shifts, strict=True)
    ]


def _shift(pose: Pose, focus: Point, width: int, height: int) -> Point:
    """Return how far a pose moves the focus from its place, with the opposite sign."""
    facing = replace(pose, x=0, y=0).matrix(width, height)
    x, y, scale = facing @ (focus[0] * width, focus[1] * height, 1)
    return focus[0] - float(x / scale) / width, focus[1] - float(y / scale) / height


def _shifted(
    poses: Sequence[Pose], focus: Point, closer: float, width: int, height: int
) -> list[Pose]:
    """Return the poses, all shifted equally, so that the zoom `closer` also keeps the focus.

    That zoom moved the focus outwards. The shift brings it back as far as no frame looks past the
    edge.
    """
    seen = np.array([_seen(pose, width, height) for pose in poses])
    shift = []
    for axis in (0, 1):
        wanted = (focus[axis] - 0.5) * (1 - 1 / closer)
        first, last = seen[:, axis, 0].min(), seen[:, axis, 1].max()
        shift.append(float(min(max(wanted, min(0.0, -first)), max(0.0, 1 - last))))
    return [replace(pose, x=pose.x + shift[0], y=pose.y + shift[1]) for pose in poses]


def _seen(pose: Pose, width: int, height: int) -> Matrix:
    """Return the part of the image that a frame shows: (axis, least and most), as fractions."""
    corners = np.array([[0, width, 0, width], [0, 0, height, height], [1, 1, 1, 1]])
    x, y, scale = pose.matrix(width, height) @ corners
    across, down = x / scale / width, y / scale / height
    return np.array([[across.min(), across.max()], [down.min(), down.max()]])


def _zoom_needed(pose: Pose, width: int, height: int) -> float:
    """Return the factor on `pose.zoom` at which all four corners are within the image.

    A homography keeps straight lines straight, so the corners stand for the whole frame.
    """
    facing = replace(pose, x=0, y=0).matrix(width, height)
    corners = np.array([[0, width, 0, width], [0, 0, height, height], [1, 1, 1, 1]])
    x, y, scale = facing @ corners
    reach_x, reach_y = x / scale / width - 0.5, y / scale / height - 0.5
    return float(
        max(
            reach_x.max() / (0.5 - pose.x),
            -reach_x.min() / (0.5 + pose.x),
            reach_y.max() / (0.5 - pose.y),
            -reach_y.min() / (0.5 + pose.y),
        )
    )


# Fractions of the short side, and of roll, at normal speed.
SWAY: Final = (0.008, math.radians(0.5))
SWAY_HERTZ: Final = (0.35, 0.9, 1.7)
SWAY_SHARES: Final = (0.6, 0.3, 0.1)


def _sway(num_frames: int, *, fps: int, seed: int, aspect: float) -> Matrix:
    """Return a handheld drift as x, y and roll per frame, (num_frames, 3), 0 in the first."""
    random = np.random.default_rng(seed)
    phases = random.uniform(0, 2 * math.pi, (3, len(SWAY_HERTZ)))
    hertz = np.array(SWAY_HERTZ) * random.uniform(0.8, 1.2, (3, len(SWAY_HERTZ)))
    # At least four frames for the quickest swing: with fewer it jumps instead of swaying.
    hertz *= min(1.0, fps / (4 * hertz.max()))
    seconds = np.arange(num_frames)[:, None, None] / fps
    waves = np.sin(2 * math.pi * hertz * seconds + phases) @ np.array(SWAY_SHARES)
    far = np.array([SWAY[0] / max(1, aspect), SWAY[0] * min(1, aspect), SWAY[1]])
    return np.asarray((waves - waves[0]) * far)


def _shaken(pose: Pose, sway: Matrix) -> Pose:
    x, y, roll = (float(value) for value in sway)
    return replace(pose, x=pose.x + x, y=pose.y + y, roll=pose.roll + roll)
