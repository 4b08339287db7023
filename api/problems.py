"""Errors as clients see them: RFC 9457 problem+json, which OpenAI's clients read too."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import BaseRoute, Match, Mount
from starlette.types import Scope

from api.validation_messages import explain
from shared.errors import AppError, Conflict
from shared.errors.access import Unauthenticated
from shared.excerpt import begin
from shared.outbound.errors import OutboundFailed

MEDIA_TYPE: Final = "application/problem+json"
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class ErrorBody(BaseModel):
    """The same error in the place where OpenAI's clients look for it."""

    code: str
    message: str
    type: str
    param: str | None


class Problem(BaseModel):
    """An error: `code` is stable, `detail` is a sentence, `param` names the field."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    param: str | None
    request_id: str
    error: ErrorBody


def problem_response(
    error: AppError,
    scope: Scope,
    *,
    code: str | None = None,
    members: Mapping[str, Any] | None = None,
) -> JSONResponse:
    """Return the answer for an error.

    Args:
        code: used in place of the class's own, if a job has its own.
        members: more members for the body, such as the id of a job that goes on.
    """
    problem = _problem(
        scope, error.status, code or error.code, error.title, error.message, error.param
    )
    headers = {}
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(error.retry_after_seconds)
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, Conflict | OutboundFailed):
        # OpenAI's clients try these again unless a header forbids it; a test delivery would be
        # sent three times.
        headers["x-should-retry"] = "false"
    return _response(problem, headers, members or {})


def request_id(scope: Scope) -> str:
    """Return the id that the outermost layer gave this request."""
    return str(scope["state"]["request_id"])


def install(app: FastAPI) -> None:
    """Make the app answer every error as a problem."""

    async def refused(request: Request, error: AppError) -> JSONResponse:
        return problem_response(error, request.scope)

    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return problem_response(explain(error.errors()), request.scope)

    async def http(request: Request, error: HTTPException) -> JSONResponse:
        return _framework_error(error, request.scope)

    app.exception_handler(AppError)(refused)
    app.exception_handler(RequestValidationError)(invalid)
    app.exception_handler(HTTPException)(http)


def _framework_error(error: HTTPException, scope: Scope) -> JSONResponse:
    """Return the answer for a request that reached no handler of ours, such as 404 and 405."""
    phrase = HTTPStatus(error.status_code).phrase
    headers = dict(error.headers or {})
    path = begin(scope["path"])
    detail = str(error.detail)
    if error.status_code == HTTPStatus.NOT_FOUND:
        detail = f"there is nothing at {path}; /docs lists all paths"
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_methods(scope))
        detail = f"{path} does not take {scope['method']}, but {headers['Allow']}"
    code = phrase.lower().replace(" ", "_")
    return _response(_problem(scope, error.status_code, code, phrase, detail, None), headers, {})


def _methods(scope: Scope) -> list[str]:
    """Return the path's methods (RFC 9110, 15.5.6); the routers name only those of one route."""
    routes: list[BaseRoute] = scope["app"].routes
    # A mount has replaced the root by its own path at this point.
    whole = {**scope, "root_path": scope.get("app_root_path", scope["root_path"])}
    return [
        method
        for method in METHODS
        if any(_takes(route, {**whole, "method": method}) for route in routes)
    ]


def _takes(route: BaseRoute, scope: Scope) -> bool:
    is_file = isinstance(route, Mount)  # A mount matches any method, but its files are only read.
    return route.matches(scope)[0] is Match.FULL and (
        not is_file or scope["method"] in ("GET", "HEAD")
    )


def _problem(
    scope: Scope, status: int, code: str, title: str, detail: str, param: str | None
) -> Problem:
    return Problem(
        type=f"urn:stillreel:problem:{code}",
        title=title,
        status=status,
        detail=detail,
        # The request and not its path: the answer must not show whether an id is another owner's
        # or nobody's.
        instance=f"urn:stillreel:request:{request_id(scope)}",
        code=code,
        param=param,
        request_id=request_id(scope),
        error=ErrorBody(code=code, message=detail, type=_openai_type(status), param=param),
    )


def _response(
    problem: Problem, headers: Mapping[str, str], members: Mapping[str, Any]
) -> JSONResponse:
    return JSONResponse(
        {**problem.model_dump(), **members},
        status_code=problem.status,
        headers={"Cache-Control": "no-store", **headers},
        media_type=MEDIA_TYPE,
    )


def _openai_type(status: int) -> str:
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return "rate_limit_error"
    return "invalid_request_error" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "server_error"
