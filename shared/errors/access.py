"""Errors of access: the caller is unknown, or is not allowed this."""

from shared.errors import AppError


class Unauthenticated(AppError):
    status = 401
    title = "Not authenticated"


class MissingKey(Unauthenticated):
    code = "missing_api_key"
    title = "API key missing"


class InvalidKey(Unauthenticated):
    code = "invalid_api_key"
    title = "API key not valid"


class SessionEnded(Unauthenticated):
    """The session of the cookie has ended: by its time, by signing out, or with its key."""

    code = "session_ended"
    title = "Session ended"


class Forbidden(AppError):
    status = 403
    title = "Forbidden"


class AdminOnly(Forbidden):
    code = "admin_only"
    title = "For admins only"


class ReadOnlyKey(Forbidden):
    code = "read_only_key"
    title = "The key may only read"


class ModelNotAllowed(Forbidden):
    """The key is limited to other models."""

    code = "model_not_allowed"
    title = "Model not allowed"


class HostRefused(Forbidden):
    """The Host is a name that a web page may have pointed here."""

    code = "host_refused"
    title = "Host refused"


class CrossSiteRefused(Forbidden):
    """A page of another site sent this request, in the browser of a user who has access."""

    code = "cross_site_refused"
    title = "Cross-site request refused"


class LinkRefused(Forbidden):
    """We did not sign this link, or we signed it for another file."""

    code = "link_refused"
    title = "Link not valid"


class LinkExpired(Forbidden):
    """We signed this link, but it has expired, or its owner's links were ended."""

    code = "link_expired"
    title = "Link expired"


class HeaderRefused(Forbidden):
    """The header of the login proxy came from another sender."""

    code = "login_header_refused"
    title = "Login header refused"
