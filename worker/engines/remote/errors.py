"""What goes wrong with a render elsewhere; where they stand in the tree: `shared/errors.py`."""

from shared.errors import AppError, RenderFailed


class Away(AppError):
    """It gave no answer, or one that says nothing of the task (429, 5xx): ask again later.

    `retry_after_seconds` is what it asked for itself. After a create, whether there is a task
    now is only known where `is_refusal` says that it took none.
    """

    code = "remote_away"

    def __init__(
        self, message: str, *, retry_after_seconds: int | None = None, is_refusal: bool = False
    ) -> None:
        super().__init__(message, retry_after_seconds=retry_after_seconds)
        self.is_refusal = is_refusal


class TaskVanished(RenderFailed):
    """It does not know the task any longer."""

    code = "remote_task_vanished"


class OutcomeUnknown(RenderFailed):
    """A paid task may have been made, and nobody can say which: it is not asked for twice."""

    code = "remote_outcome_unknown"


class ContentRefused(RenderFailed):
    """Its moderation refused the picture, the prompt or the clip."""

    code = "remote_content_refused"


class RequestRefused(RenderFailed):
    """It does not take what was asked for; the message has its own words, cut to a line."""

    code = "remote_request_refused"


class KeyRefused(RenderFailed):
    """It does not take the operator's key, or the account is empty; the log says which."""

    code = "remote_key_refused"


class TaskFailed(RenderFailed):
    """It gave the task up; the message has its own words, cut to a line."""

    code = "remote_task_failed"


class ResultGone(RenderFailed):
    """The link to the clip has expired: the next attempt asks for a new one."""

    code = "remote_result_gone"
    retryable = True


class ResultUnusable(RenderFailed):
    """What came is no clip: another type, too large, without end, or another length."""

    code = "remote_result_unusable"
