"""Every error this system names, with its wire code and HTTP status, as a tree.

AppError
├── InvalidRequest            422  bad parameters; `param` names the field
│   ├── UnknownModel          404
│   ├── TooLargeForGpu        422
│   ├── InvalidImage          422  and its kinds: truncated, animated, … (images.py)
│   │   ├── UnsupportedImage  415
│   │   ├── ImageNotFetched   422  the one behind a URL; `code` is the outbound error's
│   │   └── ImageTooLarge     413
│   ├── BodyTooLarge          413
│   ├── UnsupportedBody       415
│   └── IdempotencyConflict   422
├── NotHttp                   400  bytes that the server itself could not read as a request
├── Unauthenticated           401  MissingKey, InvalidKey, SessionEnded (access.py)
├── Forbidden                 403  AdminOnly, ReadOnlyKey, ModelNotAllowed, HostRefused,
│                                  CrossSiteRefused, LinkRefused, LinkExpired, HeaderRefused
│                                  (access.py)
├── NotFound                  404
├── Conflict                  409  job_terminal, job_not_ready, endpoint_disabled, …
├── Gone                      410
├── RangeNotSatisfiable       416  a part of a file that it does not have
├── QueueFull, RateLimited    429  and TooManyStreams
├── QuotaExceeded             429  the key's seconds of today are taken
├── Unavailable               503  database, storage, starting, busy, workers full, cards lost
│   └── StorageFull           507
├── StillRendering            504  the wait is over, the job goes on
├── OutboundRefused           422  a URL that no request of ours may follow (outbound/errors.py)
│   └── InvalidUrl, TooManyRedirects
├── OutboundFailed            502  an outgoing request got no answer (outbound/errors.py)
│   └── OutboundTimedOut, TooManyLookups, UnusableAnswer, AnswerTooLarge
├── LeaseLost                      a newer attempt, a cancel or the keeper took the job
├── Drained                        the worker is stopping: hand the job back
├── PutOff                         who was asked takes no job now: hand it back, due later
└── RenderFailed                   the job's own end; `retryable` says whether again may help
    ├── OutOfMemory, NonFiniteFrames, BlankFrames, BadVideo
    ├── MissingWeights, ModelLoading, DevicePoisoned
    ├── StorageFailed, Stalled, Unreachable, Unforeseen
    └── what engines elsewhere cause (worker/engines/remote/errors.py)
"""

from typing import ClassVar


class AppError(Exception):
    """An error with a stable `code`; the message says what is wrong and what would be right."""

    code: str = "internal"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"

    def __init__(
        self, message: str, *, param: str | None = None, retry_after_seconds: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_seconds = retry_after_seconds

    @property
    def cause(self) -> str:
        """What a library said about it, in one line: for logs and shells, not for clients."""
        told = getattr(self.__cause__, "orig", None) or self.__cause__ or self
        return str(told).strip().partition("\n")[0] or type(told).__name__


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


class TooLargeForGpu(InvalidRequest):
    """No card at work has the memory for this clip; the message names one that would fit."""

    code = "too_large_for_gpu"
    title = "Clip too large"


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


class NotHttp(AppError):
    """The connection carried something else, or a request with wrong framing."""

    code = "not_http"
    status = 400
    title = "Not HTTP"


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


class BatchNotReady(Conflict):
    code = "batch_not_ready"
    title = "Jobs of the batch have not ended yet"


class KeyNameTaken(Conflict):
    code = "key_name_taken"
    title = "The name of the key is taken"


class KeyRevoked(Conflict):
    code = "key_revoked"
    title = "The key was revoked"


class RotationUnderWay(Conflict):
    """The key before the last rotation still works, so a third one may not begin."""

    code = "rotation_under_way"
    title = "The key is being rotated"


class EndpointDisabled(Conflict):
    code = "endpoint_disabled"
    title = "The webhook endpoint is disabled"


class DeliveryUnderWay(Conflict):
    code = "delivery_under_way"
    title = "The delivery is being sent"


class AddressGone(Conflict):
    """The job of a delivery was deleted, and what its client wrote is no longer kept."""

    code = "address_gone"
    title = "The address is no longer kept"


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


class QuotaExceeded(AppError):
    """The key's seconds or dollars for today are used up; Retry-After says when the day ends."""

    code = "quota_exceeded"
    status = 429
    title = "Daily limit reached"


class RateLimited(AppError):
    code = "rate_limited"
    status = 429
    title = "Too many requests"


class TooManyStreams(RateLimited):
    code = "too_many_streams"
    title = "Too many event streams"


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


class StorageFull(StorageUnavailable):
    """There is no space for more files, until some expire or the disk grows."""

    code = "storage_full"
    status = 507
    title = "Storage full"


class Starting(Unavailable):
    """No worker has registered yet, so the gateway knows no models."""

    code = "starting"
    title = "Starting"


class CardsLost(Unavailable):
    """Cards fell off the bus of their hosts; only readiness reports it, and jobs go on."""

    code = "cards_lost"


class WorkersFull(Unavailable):
    """No worker has disk space for a clip; clips that are being made will free theirs."""

    code = "workers_full"


class Busy(Unavailable):
    """Every slot for this kind of work was in use for too long."""

    code = "busy"


class StillRendering(AppError):
    code = "still_rendering"
    status = 504
    title = "Still rendering"


class LeaseLost(AppError):
    """This worker no longer owns the job: discard the work and delete your own keys."""

    code = "lease_lost"


class Drained(AppError):
    """The worker is stopping: hand the job back uncharged."""

    code = "drained"


class PutOff(AppError):
    """The server takes no job now: hand it back uncharged, due in `retry_after_seconds`."""

    code = "put_off"


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


class Unreachable(RenderFailed):
    """The server that renders it took no job, or gave no answer, for too long."""

    code = "remote_unavailable"
    retryable = True


class Unforeseen(RenderFailed):
    """An error that no engine names: the log has it, and the client gets a plain sentence."""

    code = "internal"
    retryable = True
