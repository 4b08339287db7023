"""The images of a create request: the one of each job, and those that some engines take."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from api.submit.image_source import Files, ImageSource, number, read_source
from shared.engines.given_frames import MAX_KEYFRAMES, GivenFrames
from shared.errors import InvalidRequest
from shared.excerpt import excerpt

MAX_FILES: Final = MAX_KEYFRAMES + 2
"""An image, a last frame, and every keyframe as a part of the form."""

SINGLE: Final = ("image", "last_frame")
"""Fields of one image each, which a form may send as a file part of that name."""

IMAGE_FIELDS: Final = (*SINGLE, "keyframes")

MAX_FRAME: Final = 10**6


@dataclass(frozen=True)
class Images:
    """The images that the client sent, not checked yet; keyframes by their frames' numbers."""

    image: ImageSource
    last_frame: ImageSource | None = None
    keyframes: tuple[tuple[int, ImageSource], ...] = ()

    def __iter__(self) -> Iterator[tuple[str, ImageSource]]:
        """Yield each with the name of its field, the image first and keyframes last."""
        yield "image", self.image
        if self.last_frame is not None:
            yield "last_frame", self.last_frame
        for index, (_, source) in enumerate(self.keyframes):
            yield f"keyframes.{index}.image", source

    @property
    def frames(self) -> GivenFrames:
        return GivenFrames(
            last_frame=self.last_frame is not None,
            keyframes=tuple(frame for frame, _ in self.keyframes),
        )


def read_images(values: dict[str, Any], files: Files) -> Images:
    """Take the images out of a body's values.

    Raises:
        InvalidRequest: one is missing, malformed or sent twice, or a file part has no use.
    """
    sent = {name: values.pop(name, None) for name in IMAGE_FIELDS}
    for name in SINGLE:
        if name in files:
            if sent[name] is not None:
                raise InvalidRequest(f"{name} is sent twice; send it once", param=name)
            sent[name] = {"part": name}
    _check_parts(sent, files)
    last = sent["last_frame"]
    return Images(
        read_source(sent["image"], files),
        None if last is None else read_source(last, files, name="last_frame"),
        tuple(_keyframes(sent["keyframes"] or [], files)),
    )


def _keyframes(sent: object, files: Files) -> Iterator[tuple[int, ImageSource]]:
    if not isinstance(sent, list) or len(sent) > MAX_KEYFRAMES:
        raise InvalidRequest(
            f'keyframes takes a list of at most {MAX_KEYFRAMES}, each {{"frame": 8, "image": …}}',
            param="keyframes",
        )
    for index, each in enumerate(sent):
        name = f"keyframes.{index}"
        if not isinstance(each, Mapping) or set(each) != {"frame", "image"}:
            raise InvalidRequest(
                f'{name} takes {{"frame": 8, "image": …}} and nothing else', param=name
            )
        frame = number(each["frame"])
        if not isinstance(frame, int) or isinstance(frame, bool) or abs(frame) > MAX_FRAME:
            raise InvalidRequest(
                f"{name}.frame takes a whole number: the clip's frames count from 0, and -1 is"
                " its last",
                param=f"{name}.frame",
            )
        yield frame, read_source(each["image"], files, name=f"{name}.image")


def _check_parts(sent: Mapping[str, Any], files: Files) -> None:
    """Refuse a file part that nothing refers to, because its name is misspelled."""
    keyframes = sent["keyframes"] if isinstance(sent["keyframes"], list) else []
    images = [sent[name] for name in SINGLE]
    images += [each.get("image") for each in keyframes if isinstance(each, Mapping)]
    used = {
        each["part"]
        for each in images
        if isinstance(each, Mapping) and isinstance(each.get("part"), str)
    }
    for name in files:
        if name not in used:
            raise InvalidRequest(
                f"the file part is named {excerpt(name)}; name it image, or have an image say"
                ' {"part": NAME}',
                param="image",
            )
