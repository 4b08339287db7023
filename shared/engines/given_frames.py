"""Frames of a clip for which a client gives images, beside the first one."""

from dataclasses import dataclass
from typing import Final

from shared.engines.spec import EngineSpec, Honours
from shared.errors import InvalidRequest

MAX_KEYFRAMES: Final = 8


@dataclass(frozen=True)
class GivenFrames:
    """The frames that have images; a negative number counts from the clip's end."""

    last_frame: bool = False
    keyframes: tuple[int, ...] = ()

    def check(self, spec: EngineSpec, others: tuple[EngineSpec, ...] = ()) -> None:
        """Refuse frames that an engine does not take; `others` are engines to name in the error.

        Raises:
            InvalidRequest: `param` names the field, and the message names the models that take it.
        """
        for name, is_given in (
            (Honours.LAST_FRAME, self.last_frame),
            (Honours.KEYFRAMES, bool(self.keyframes)),
        ):
            if is_given and name not in spec.honours:
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
