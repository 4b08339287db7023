"""Errors of outgoing requests; `shared/errors/__init__.py` shows their place in the tree."""

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
    """Whether a part of the request may have left; false if the connection failed."""


class OutboundTimedOut(OutboundFailed):
    code = "outbound_timed_out"


class TooManyLookups(OutboundFailed):
    """Too many lookups wait for the name server, so this one was not begun."""

    code = "too_many_lookups"


class UnusableAnswer(OutboundFailed):
    """The answer is not what was asked for, such as a 404."""

    code = "unusable_answer"


class AnswerTooLarge(OutboundFailed):
    code = "answer_too_large"
