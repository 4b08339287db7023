"""Errors about an image that a client sends."""

from shared.errors import AppError, InvalidRequest


class InvalidImage(InvalidRequest):
    code = "invalid_image"
    title = "Invalid image"


class UnsupportedImage(InvalidImage):
    code = "unsupported_image"
    status = 415


class TruncatedImage(InvalidImage):
    code = "truncated_image"


class AnimatedImage(InvalidImage):
    code = "animated_image"


class ImageOverLimits(InvalidImage):
    """Its decoder crashed, hung, or took more than one image may take."""

    code = "image_over_limits"


class ImageTooLarge(InvalidImage):
    code = "image_too_large"
    status = 413
    title = "Image too large"


class ImageNotFetched(InvalidImage):
    """The image behind a URL could not be fetched, for the reason that an outbound error names."""

    title = "Image not fetched"

    def __init__(self, reason: AppError, *, param: str = "image.url") -> None:
        super().__init__(f"{param}: {reason.message}", param=param)
        self.code = reason.code
