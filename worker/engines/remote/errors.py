"""Errors of remote renders; `shared/errors/__init__.py` shows their place in the tree."""

from shared.errors import AppError, RenderFailed


class Away(AppError):
    """There was no answer, or one that says nothing about the task (429, 5xx): ask again later.

    `retry_after_seconds` is the server's own wish. After a create it is only known that there is
    no task if `is_refusal` says so.
    """

    code = "remote_away"

    def __init__(
        self, message: str, *, retry_after_seconds: int | None = None, is_refusal: bool = False
    ) -> None:
        super().__init__(message, retry_after_seconds=retry_after_seconds)
        self.is_refusal = is_refusal


class TaskVanished(RenderFailed):
    """The server no longer knows the task."""

    code = "remote_task_vanished"


class OutcomeUnknown(RenderFailed):
    """A paid task may have been made, and nobody can tell: it is not asked for twice."""

    code = "remote_outcome_unknown"


class ContentRefused(RenderFailed):
    """The provider's moderation refused the image, the prompt or the clip."""

    code = "remote_content_refused"


class RequestRefused(RenderFailed):
    """The server refuses the request; the message has its own words, cut to one line."""

    code = "remote_request_refused"


class KeyRefused(RenderFailed):
    """The server refuses the operator's key, or the account is empty; the log says which."""

    code = "remote_key_refused"


class TaskFailed(RenderFailed):
    """The server's render failed; the message has its own words, cut to one line."""

    code = "remote_task_failed"


class ResultGone(RenderFailed):
    """The link to the clip has expired: the next attempt asks for a new one."""

    code = "remote_result_gone"
    retryable = True


class ResultUnusable(RenderFailed):
    """The result is not a usable clip: another type, too large, without end, or another length."""

    code = "remote_result_unusable"
