"""Why somebody is not let in: nobody we know, or somebody who may not (errors.py has the tree)."""

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
    """A cookie whose session is over: by its time, by signing out, or with its key."""

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
    """A name that some page of the web may have pointed here."""

    code = "host_refused"
    title = "Host refused"


class CrossSiteRefused(Forbidden):
    """A page of another site asks, by the browser of somebody who has access."""

    code = "cross_site_refused"
    title = "Cross-site request refused"


class LinkRefused(Forbidden):
    """A link to a file that we have not signed, or not for this file."""

    code = "link_refused"
    title = "Link not valid"


class LinkExpired(Forbidden):
    """A link of ours whose time is over, or whose owner's links were ended."""

    code = "link_expired"
    title = "Link expired"


class HeaderRefused(Forbidden):
    """Who is logged in was said by somebody who is not the login proxy."""

    code = "login_header_refused"
    title = "Login header refused"
