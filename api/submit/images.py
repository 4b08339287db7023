"""The images of a create request: the one of each job, and those that some engines take."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from api.submit.image_source import Files, ImageSource, number, read_source
from shared.engines.given_images import GIVEN, MAX_KEYFRAMES, SINGLE, GivenImages
from shared.errors import InvalidRequest
from shared.excerpt import excerpt

PARTS: Final = ("image", *SINGLE)
"""Fields of one image each, which a form may send as a file part of that name."""

MAX_FILES: Final = MAX_KEYFRAMES + len(PARTS)
"""Every image, as a part of the form."""

IMAGE_FIELDS: Final = ("image", *GIVEN)

MAX_FRAME: Final = 10**6


@dataclass(frozen=True)
class Images:
    """The images that the client sent, not checked yet; keyframes by their frames' numbers.

    `more` has those of the fields `SINGLE`, in that order.
    """

    image: ImageSource
    more: Mapping[str, ImageSource] = field(default_factory=dict)
    keyframes: tuple[tuple[int, ImageSource], ...] = ()

    def __iter__(self) -> Iterator[tuple[str, ImageSource]]:
        """Yield each with the name of its field, the image first and keyframes last."""
        yield "image", self.image
        yield from self.more.items()
        for index, (_, source) in enumerate(self.keyframes):
            yield f"keyframes.{index}.image", source

    @property
    def given(self) -> GivenImages:
        frames = tuple(frame for frame, _ in self.keyframes)
        return GivenImages(keyframes=frames, **dict.fromkeys(self.more, True))


def read_images(values: dict[str, Any], files: Files) -> Images:
    """Take the images out of a body's values.

    Raises:
        InvalidRequest: one is missing, malformed or sent twice, or a file part has no use.
    """
    sent = {name: values.pop(name, None) for name in IMAGE_FIELDS}
    for name in PARTS:
        if name in files:
            if sent[name] is not None:
                raise InvalidRequest(f"{name} is sent twice; send it once", param=name)
            sent[name] = {"part": name}
    _check_parts(sent, files)
    return Images(
        read_source(sent["image"], files),
        {
            name: read_source(sent[name], files, name=name)
            for name in SINGLE
            if sent[name] is not None
        },
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
    images = [sent[name] for name in PARTS]
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
