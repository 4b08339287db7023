"""The camera moves by their stable names."""

from dataclasses import dataclass
from enum import StrEnum


class MoveName(StrEnum):
    """A move of the camera, never of the image: when it pans left, the image moves right."""

    STILL = "still"
    PUSH_IN = "push_in"
    PULL_OUT = "pull_out"
    PAN_LEFT = "pan_left"
    PAN_RIGHT = "pan_right"
    TILT_UP = "tilt_up"
    TILT_DOWN = "tilt_down"
    ROLL_CLOCKWISE = "roll_clockwise"
    ROLL_COUNTERCLOCKWISE = "roll_counterclockwise"
    ARC_LEFT = "arc_left"
    ARC_RIGHT = "arc_right"
    HANDHELD = "handheld"


class Speed(StrEnum):
    SLOW = "slow"
    NORMAL = "normal"
    QUICK = "quick"


@dataclass(frozen=True)
class Move:
    name: MoveName
    speed: Speed = Speed.NORMAL
