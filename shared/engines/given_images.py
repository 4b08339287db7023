"""The images that a client may give a job beside its first."""

from dataclasses import dataclass, fields
from typing import Final

from shared.engines.spec import EngineSpec
from shared.errors import InvalidRequest

MAX_KEYFRAMES: Final = 8


@dataclass(frozen=True)
class GivenImages:
    """Which images a job has beside its first: one field for each, named as clients name it.

    `keyframes` are the frames that have an image; a negative number counts from the clip's end.
    """

    last_frame: bool = False
    keyframes: tuple[int, ...] = ()

    @property
    def single(self) -> tuple[str, ...]:
        """Return the fields of one image that are given."""
        return tuple(name for name in SINGLE if getattr(self, name))

    def check(self, spec: EngineSpec, others: tuple[EngineSpec, ...] = ()) -> None:
        """Refuse images that an engine does not take; `others` are engines to name in the error.

        Raises:
            InvalidRequest: `param` names the field, and the message names the models that take it.
        """
        for name in GIVEN:
            if getattr(self, name) and name not in spec.honours:
                able = [other.name for other in others if name in other.honours]
                advice = f"ask for model {' or '.join(able)}" if able else "no model here does"
                raise InvalidRequest(
                    f"{spec.name} takes no {name}: leave it out, or {advice}"
                    if able
                    else f"{spec.name} takes no {name}, and {advice}: leave it out",
                    param=name,
                )

    def settled(self, spec: EngineSpec, num_frames: int) -> tuple[int, ...]:
        """Return the keyframes' numbers counted from the clip's beginning, in the order given.

        Raises:
            InvalidRequest: a frame is not in this clip, or has two images.
        """
        self.check(spec)
        taken = {0: "image"} | ({num_frames - 1: "last_frame"} if self.last_frame else {})
        settled = []
        for given in self.keyframes:
            frame = given + num_frames if given < 0 else given
            if not 0 <= frame < num_frames:
                raise InvalidRequest(
                    f"keyframes: the clip has no frame {given}; it has {num_frames}, 0 to"
                    f" {num_frames - 1}, or -{num_frames} to -1 from its end",
                    param="keyframes",
                )
            if frame in taken:
                raise InvalidRequest(
                    f"keyframes: frame {given} is given by {taken[frame]} already; leave one out",
                    param="keyframes",
                )
            taken[frame] = "another keyframe"
            settled.append(frame)
        return tuple(settled)


GIVEN: Final = tuple(each.name for each in fields(GivenImages))
"""The names of these fields, which are also those of `Honours` that an engine's spec has."""

SINGLE: Final = tuple(name for name in GIVEN if name != "keyframes")
"""The fields of one image each."""
