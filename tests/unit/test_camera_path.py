"""The poses of the camera: eased, in the named direction, never past the edge."""

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest

from tests.support.matrix import in_turn
from worker.engines.camera.moves import Move, MoveName, Speed
from worker.engines.camera.path import FIRST, MIDDLE, TRAVELS, Pose, ease, follow

SIZES = [(512, 512), (910, 512), (288, 512), (1536, 256)]
EASED = [name for name in MoveName if name not in {MoveName.STILL, MoveName.HANDHELD}]
COMBINATIONS = [
    tuple(name for name in names if name is not None)
    for names in itertools.product(
        (None, MoveName.PUSH_IN, MoveName.PULL_OUT),
        (None, MoveName.PAN_LEFT, MoveName.PAN_RIGHT),
        (None, MoveName.TILT_UP),
        (None, MoveName.ROLL_CLOCKWISE, MoveName.ROLL_COUNTERCLOCKWISE),
        (None, MoveName.ARC_LEFT, MoveName.ARC_RIGHT),
        (None, MoveName.HANDHELD),
    )
]


def path(
    *names: MoveName,
    speed: Speed = Speed.NORMAL,
    size: tuple[int, int] = (768, 512),
    num_frames: int = 16,
    fps: int = 8,
    seed: int = 1,
    focus: tuple[float, float] = MIDDLE,
) -> tuple[Pose, ...]:
    moves = [Move(name, speed) for name in names]
    return follow(
        moves,
        width=size[0],
        height=size[1],
        num_frames=num_frames,
        fps=fps,
        seed=seed,
        focus=focus,
    )


def seen(
    pose: Pose, x: float, y: float, *, size: tuple[int, int] = (768, 512)
) -> npt.NDArray[np.float64]:
    """Return the point of the image that the frame shows at (x, y)."""
    point = pose.matrix(*size) @ np.array([x, y, 1.0])
    return np.asarray(point[:2] / point[2])


def gaps(poses: tuple[Pose, ...], size: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Return how far each corner of each frame is inside each edge of the image."""
    width, height = size
    corners = np.array([[0, width, 0, width], [0, 0, height, height], [1, 1, 1, 1]])
    x, y, scale = np.moveaxis(np.stack([p.matrix(*size) @ corners for p in poses]), 1, 0)
    x, y = x / scale, y / scale
    return np.stack([x, width - x, y, height - y])


@pytest.mark.parametrize(("size", "speed"), in_turn(SIZES, tuple(Speed)))
def test_no_corner_leaves_the_image_and_no_more_than_needed_is_cut_away(
    size: tuple[int, int], speed: Speed
) -> None:
    for names in COMBINATIONS:
        poses = path(*names, speed=speed, size=size, num_frames=9, seed=3)
        assert gaps(poses, size).min() == pytest.approx(0, abs=1e-6), names


@pytest.mark.parametrize("name", EASED)
@pytest.mark.parametrize("speed", Speed)
def test_a_move_starts_and_ends_at_rest(name: MoveName, speed: Speed) -> None:
    poses = path(name, speed=speed, num_frames=32)
    corners = np.array([[seen(pose, x, 60) for x in (60, 700)] for pose in poses])
    steps = np.linalg.norm(np.diff(corners, axis=0), axis=-1).max(axis=-1)
    assert steps[0] < 0.1 * steps.max()
    assert steps[-1] < 0.1 * steps.max()
    assert np.abs(np.diff(steps)).max() < 0.2 * steps.max()
    assert (steps > 0).all()


def test_the_ease_runs_from_none_to_all_without_turning_back() -> None:
    done = [ease(u) for u in np.linspace(0, 1, 200)]
    assert done[0] == 0
    assert done[-1] == 1
    assert done == sorted(done)
    assert ease(0.5) == 0.5


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        (MoveName.STILL, (0, 0, 1, 1), (0, 0, 1, 1)),
        (MoveName.PUSH_IN, (0, 0, 1, 1), (1 / 12, 1 / 12, 11 / 12, 11 / 12)),
        (MoveName.PULL_OUT, (1 / 12, 1 / 12, 11 / 12, 11 / 12), (0, 0, 1, 1)),
        (MoveName.PAN_RIGHT, (0, 0.06, 0.88, 0.94), (0.12, 0.06, 1, 0.94)),
        (MoveName.PAN_LEFT, (0.12, 0.06, 1, 0.94), (0, 0.06, 0.88, 0.94)),
        (MoveName.TILT_DOWN, (0.06, 0, 0.94, 0.88), (0.06, 0.12, 0.94, 1)),
        (MoveName.TILT_UP, (0.06, 0.12, 0.94, 1), (0.06, 0, 0.94, 0.88)),
    ],
)
def test_a_level_move_goes_from_crop_to_crop(
    name: MoveName, first: tuple[float, ...], last: tuple[float, ...]
) -> None:
    poses = path(name)
    assert poses[0].crop == pytest.approx(first)
    assert poses[-1].crop == pytest.approx(last)


@pytest.mark.parametrize("name", MoveName)
def test_a_move_alone_is_upright_in_its_anchor_frame(name: MoveName) -> None:
    anchor = path(name)[TRAVELS[name].anchor]
    assert anchor.is_level
    left, top, right, bottom = anchor.crop
    if name in {MoveName.STILL, MoveName.PUSH_IN, MoveName.PULL_OUT}:
        assert (left, top, right, bottom) == pytest.approx((0, 0, 1, 1))
    if TRAVELS[name].anchor == FIRST and name not in {
        MoveName.PAN_LEFT,
        MoveName.PAN_RIGHT,
        MoveName.TILT_UP,
        MoveName.TILT_DOWN,
    }:
        assert (left + right, top + bottom) == pytest.approx((1, 1))


def test_a_camera_that_rolls_clockwise_sees_the_image_turn_the_other_way() -> None:
    last = path(MoveName.ROLL_CLOCKWISE, size=(512, 512))[-1]
    level = seen(last, 500, 256, size=(512, 512)) - seen(last, 12, 256, size=(512, 512))
    assert math.degrees(math.atan2(level[1], level[0])) == pytest.approx(4)


def test_an_arc_to_the_right_brings_the_right_side_nearer() -> None:
    last = path(MoveName.ARC_RIGHT)[-1]
    heights = [seen(last, x, 512)[1] - seen(last, x, 0)[1] for x in (0, 384, 768)]
    assert heights[0] > heights[1] > heights[2]
    assert seen(last, 384, 256) == pytest.approx([384, 256])


@pytest.mark.parametrize("name", EASED)
def test_a_quicker_move_goes_further(name: MoveName) -> None:
    far = []
    for speed in (Speed.SLOW, Speed.NORMAL, Speed.QUICK):
        poses = path(name, speed=speed)
        corners = itertools.product((60, 708), (60, 452))
        far.append(max(math.dist(seen(poses[0], *c), seen(poses[-1], *c)) for c in corners))
    assert far[1] > 1.4 * far[0]
    assert far[2] > 1.3 * far[1]


def test_several_moves_run_at_once() -> None:
    poses = path(MoveName.PUSH_IN, MoveName.PAN_RIGHT, MoveName.ROLL_CLOCKWISE)
    zooms, xs, rolls = ([getattr(p, key) for p in poses] for key in ("zoom", "x", "roll"))
    for values in (zooms, xs, rolls):
        assert values == sorted(values)
        assert values[0] < values[7] < values[-1]


def test_the_seed_alone_decides_how_a_hand_shakes() -> None:
    assert path(MoveName.HANDHELD, seed=5) == path(MoveName.HANDHELD, seed=5)
    assert path(MoveName.HANDHELD, seed=5) != path(MoveName.HANDHELD, seed=6)
    assert path(MoveName.PAN_LEFT, seed=5) == path(MoveName.PAN_LEFT, seed=6)


@pytest.mark.parametrize("fps", [1, 4, 8, 24, 60])
@pytest.mark.parametrize("seed", range(5))
def test_a_hand_sways_and_never_jumps(fps: int, seed: int) -> None:
    poses = path(MoveName.HANDHELD, fps=fps, seed=seed, num_frames=32, size=(512, 512))
    middles = np.array([seen(pose, 256, 256, size=(512, 512)) for pose in poses])
    steps = np.linalg.norm(np.diff(middles, axis=0), axis=-1)
    assert steps.max() < 0.008 * 512
    assert (steps > 0).all()
    assert 1.0 < poses[0].zoom < 1.08


FOCUSES = [(0.0, 0.0), (0.5, 0.12), (1.0, 0.3), (0.05, 0.95)]


def places(
    poses: tuple[Pose, ...], focus: tuple[float, float], size: tuple[int, int]
) -> npt.NDArray[np.float64]:
    """Return the place of the focus in each frame, in fractions of the frame."""
    point = np.array([focus[0] * size[0], focus[1] * size[1], 1.0])
    found = np.stack([np.linalg.inv(pose.matrix(*size)) @ point for pose in poses])
    return np.asarray(found[:, :2] / found[:, 2:] / size)


@pytest.mark.parametrize(
    ("size", "focus"),
    [
        pair if number % 5 == 0 else pytest.param(*pair, marks=pytest.mark.extended)
        for number, pair in enumerate(itertools.product(SIZES, FOCUSES))
    ],
)
def test_with_a_focus_no_corner_leaves_the_image(
    size: tuple[int, int], focus: tuple[float, float]
) -> None:
    for names in COMBINATIONS:
        poses = path(*names, speed=Speed.QUICK, size=size, focus=focus, num_frames=9)
        assert gaps(poses, size).min() > -1e-6 * max(size), names


@pytest.mark.parametrize("name", [MoveName.PUSH_IN, MoveName.PULL_OUT])
@pytest.mark.parametrize("focus", FOCUSES)
def test_a_quick_push_in_leaves_the_focus_where_it_is(
    name: MoveName, focus: tuple[float, float]
) -> None:
    found = places(path(name, speed=Speed.QUICK, focus=focus), focus, (768, 512))
    assert np.allclose(found, focus, atol=1e-9)
    middle = places(path(name, speed=Speed.QUICK), focus, (768, 512))
    assert np.abs(middle - focus).max() > 0.1, "without a focus it is cut off"


@pytest.mark.parametrize("name", [MoveName.ROLL_CLOCKWISE, MoveName.ARC_LEFT])
def test_a_roll_and_an_arc_turn_around_the_focus(name: MoveName) -> None:
    focus = (0.3, 0.4)
    found = places(path(name, focus=focus), focus, (768, 512))
    assert np.ptp(found, axis=0).max() < 0.005, "less than three pixels of 512"
    assert np.abs(found[0] - focus).max() < 0.05


def test_the_middle_is_no_other_path_than_none() -> None:
    moves = [Move(MoveName.PUSH_IN, Speed.QUICK), Move(MoveName.HANDHELD, Speed.NORMAL)]
    plain = follow(moves, width=300, height=200, num_frames=8, fps=8, seed=3)
    assert follow(moves, width=300, height=200, num_frames=8, fps=8, seed=3, focus=MIDDLE) == plain
