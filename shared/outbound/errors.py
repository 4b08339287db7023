"""Errors of outgoing requests; where they stand in the tree: `shared/errors.py`."""

from shared.errors import AppError


class OutboundRefused(AppError):
    """An outgoing request was refused, before or while connecting."""

    code = "outbound_refused"
    status = 422
    title = "Address refused"


class InvalidUrl(OutboundRefused):
    code = "invalid_url"


class TooManyRedirects(OutboundRefused):
    code = "too_many_redirects"


class OutboundFailed(AppError):
    """An outgoing request got no answer: name, network, TLS, or its deadline."""

    code = "outbound_failed"
    status = 502
    title = "No answer"

    is_sent = True
    """Whether anything of the request may have left: not where the connection failed."""


class OutboundTimedOut(OutboundFailed):
    code = "outbound_timed_out"


class TooManyLookups(OutboundFailed):
    """The name server keeps so many lookups waiting that this one was not begun."""

    code = "too_many_lookups"


class UnusableAnswer(OutboundFailed):
    """What was asked for is not what came, such as a 404."""

    code = "unusable_answer"


class AnswerTooLarge(OutboundFailed):
    code = "answer_too_large"
