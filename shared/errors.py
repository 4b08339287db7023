"""Every error this system names, with its wire code and HTTP status.

AppError
├── InvalidRequest            422  bad parameters; `param` names the field
│   ├── UnknownModel          404
│   ├── InvalidImage          422  and its kinds: truncated, animated, …
│   ├── ImageTooLarge         413
│   ├── BodyTooLarge          413
│   ├── UnsupportedBody       415
│   └── IdempotencyConflict   422
├── NotFound                  404
├── Conflict                  409  job_terminal, job_not_ready, endpoint_disabled, …
├── Gone                      410
├── QueueFull                 429
├── Unavailable               503  database, storage, busy: try again later
├── StillRendering            504  the wait is over, the job goes on
├── OutboundRefused           422  a URL that no request of ours may follow
├── OutboundFailed            502  an outgoing request got no answer
├── LeaseLost                      a newer attempt, a cancel or the keeper took the job
├── Drained                        the worker is stopping: hand the job back
└── RenderFailed                   the job's own end; `retryable` says whether again may help
    ├── OutOfMemory, NonFiniteFrames, BlankFrames, BadVideo
    ├── MissingWeights, ModelLoading, DevicePoisoned
    └── StorageFailed, Stalled, Unforeseen
"""

from typing import ClassVar


class AppError(Exception):
    """An error with a stable `code`; the message says what is wrong and what would be right."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"

    def __init__(
        self, message: str, *, param: str | None = None, retry_after_seconds: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_seconds = retry_after_seconds


class InvalidRequest(AppError):
    code = "invalid_request"
    status = 422
    title = "Invalid request"


class UnknownParameter(InvalidRequest):
    code = "unknown_parameter"


class UnknownModel(InvalidRequest):
    code = "unknown_model"
    status = 404
    title = "Unknown model"


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


class ImageTooLarge(InvalidImage):
    code = "image_too_large"
    status = 413
    title = "Image too large"


class BodyTooLarge(InvalidRequest):
    code = "body_too_large"
    status = 413
    title = "Body too large"


class UnsupportedBody(InvalidRequest):
    code = "unsupported_media_type"
    status = 415
    title = "Unsupported content type"


class IdempotencyConflict(InvalidRequest):
    code = "idempotency_conflict"
    title = "Idempotency key used for another request"


class NotFound(AppError):
    code = "not_found"
    status = 404
    title = "Not found"


class Conflict(AppError):
    code = "conflict"
    status = 409
    title = "Conflict"


class TransitionRefused(Conflict):
    code = "transition_refused"


class JobTerminal(Conflict):
    code = "job_terminal"
    title = "The job has already ended"


class JobNotReady(Conflict):
    code = "job_not_ready"
    title = "The job has no result yet"


class EndpointDisabled(Conflict):
    code = "endpoint_disabled"
    title = "The webhook endpoint is disabled"


class DeliveryUnderWay(Conflict):
    code = "delivery_under_way"
    title = "The delivery is being sent"


class Gone(AppError):
    code = "gone"
    status = 410
    title = "Gone"


class RangeNotSatisfiable(AppError):
    code = "range_not_satisfiable"
    status = 416
    title = "Range not satisfiable"


class QueueFull(AppError):
    code = "queue_full"
    status = 429
    title = "Queue full"


class Unavailable(AppError):
    code = "unavailable"
    status = 503
    title = "Service unavailable"

    def __init__(
        self, message: str, *, param: str | None = None, retry_after_seconds: int | None = 5
    ) -> None:
        super().__init__(message, param=param, retry_after_seconds=retry_after_seconds)


class DatabaseUnavailable(Unavailable):
    code = "database_unavailable"


class StorageUnavailable(Unavailable):
    code = "storage_unavailable"


class Busy(Unavailable):
    """Every slot for this kind of work was taken for too long."""

    code = "busy"


class StillRendering(AppError):
    code = "still_rendering"
    status = 504
    title = "Still rendering"


class OutboundRefused(AppError):
    """An outgoing request was refused, before or while connecting."""

    code = "outbound_refused"
    status = 422
    title = "Address refused"


class OutboundFailed(AppError):
    """An outgoing request got no answer: name, network, TLS, or its deadline."""

    code = "outbound_failed"
    status = 502
    title = "No answer"


class LeaseLost(AppError):
    """This worker no longer owns the job: throw the work away and delete your own keys."""

    code = "lease_lost"


class Drained(AppError):
    """The worker is stopping: hand the job back uncharged."""

    code = "drained"


class RenderFailed(AppError):
    """A job's own failure; the message is shown to the person who asked for the clip."""

    code = "render_failed"
    title = "Render failed"
    retryable: ClassVar[bool] = False


class OutOfMemory(RenderFailed):
    code = "gpu_out_of_memory"


class NonFiniteFrames(RenderFailed):
    code = "non_finite_frames"


class BlankFrames(RenderFailed):
    code = "blank_frames"


class BadVideo(RenderFailed):
    code = "bad_video"
    retryable = True


class MissingWeights(RenderFailed):
    code = "missing_weights"


class ModelLoading(RenderFailed):
    code = "model_loading"
    retryable = True


class DevicePoisoned(RenderFailed):
    """The CUDA context is unusable: the process must end; the job may run elsewhere."""

    code = "gpu_error"
    retryable = True


class StorageFailed(RenderFailed):
    code = "storage_error"
    retryable = True


class Stalled(RenderFailed):
    code = "render_stalled"
    retryable = True


class Unforeseen(RenderFailed):
    """Something no engine named: the log has it, the client a plain sentence."""

    code = "internal"
    retryable = True
