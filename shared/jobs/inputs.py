"""The inputs of a job: its images and sounds, each one row of the table `inputs`."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, TypeAdapter

from shared.jobs.storage_keys import FIRST, input_key


class InputKind(StrEnum):
    IMAGE = "image"
    AUDIO = "audio"
    VIDEO = "video"


class Input(BaseModel):
    """One input as it is stored; sides in pixels, None if its kind has no sides.

    `name` is unique within its job: `image` for the first, `keyframe_N`, or the name of the
    client's field.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    kind: InputKind = InputKind.IMAGE
    key: str
    sha256: str
    width: int | None = None
    height: int | None = None

    @classmethod
    def first(cls, job_id: UUID, *, sha256: str, width: int, height: int) -> Self:
        """Return the image that every job has."""
        return cls(name=FIRST, key=input_key(job_id), sha256=sha256, width=width, height=height)


def keyframe_name(frame: int) -> str:
    """Return the name of the input for frame `frame` of the clip."""
    return f"keyframe_{frame}"


def read_inputs(rows: Sequence[Any]) -> tuple[Input, ...]:
    """Return the inputs that `INPUTS` of `sql.py` selected."""
    return _ROWS.validate_python(rows)


_ROWS: Final = TypeAdapter(tuple[Input, ...])
