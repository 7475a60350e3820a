"""Every error is a problem (RFC 9457): application/problem+json with a stable `type`, and never an exception's text."""

from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from coreset.errors import CoresetError, InvalidInput, InvalidSpec, NotFound
from coreset.redis.errors import unavailable
from coreset.schemas.problems import error_classes

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 5

log = structlog.get_logger("coreset_service.http.problems")

HTTP_TYPES: dict[int, tuple[str, str]] = {
    400: ("bad-request", "The request cannot be read"),
    404: (NotFound.type, NotFound.title),
    406: ("not-acceptable", "The answer cannot be given in a form that the request accepts"),
    405: ("method-not-allowed", "This address does not take this method"),
    408: ("request-timeout", "The request body did not arrive in time"),
    413: ("body-too-large", "The request body is too large"),
    415: ("unsupported-media-type", "The body is not plain JSON"),
}
OTHER = ("http-error", "The request cannot be served")


def all_types() -> dict[str, tuple[str, int]]:
    """Return title and HTTP status of every problem type this service answers with."""
    types = {slug: (cls.title, cls.status) for slug, cls in error_classes().items()}
    http = {slug: (title, status) for status, (slug, title) in HTTP_TYPES.items()}
    return {OTHER[0]: (OTHER[1], 400), **http, **types}


def problem(
    slug: str, title: str, status: int, detail: str, request_id: str, data: Mapping[str, Any] | None = None
) -> JSONResponse:
    """Make the answer. `data` adds members and cannot replace the standard ones."""
    standard = {"type": f"/problems/{slug}", "title": title, "status": status, "detail": detail}
    body = {**jsonable_encoder(data or {}), **standard, "request_id": request_id}
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    if status in (429, 503):
        headers["Retry-After"] = str(body.get("retry_after", RETRY_AFTER_SECONDS))
    return JSONResponse(body, status, headers=headers, media_type=MEDIA_TYPE)


def of_error(error: CoresetError, request_id: str) -> JSONResponse:
    return problem(error.type, error.title, error.status, error.detail, request_id, error.data)


def internal(request_id: str) -> JSONResponse:
    detail = "The service has a fault. Give its operator the request_id; the log has the rest."
    return problem(CoresetError.type, CoresetError.title, 500, detail, request_id)


def install(app: FastAPI) -> None:
    """Make every error of the app a problem. What no handler knows is caught in coreset_service.http.middleware."""
    app.add_exception_handler(CoresetError, _coreset_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RedisError, _redis_error)
    app.add_exception_handler(OSError, _storage_error)


def request_id_of(request: Request) -> str:
    return str(request.scope.get("request_id", ""))


def _coreset_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, CoresetError)
    if error.status >= 500:
        log.warning("problem", type=error.type, detail=error.detail)
    return of_error(error, request_id_of(request))


def _validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    mistakes: Sequence[Any] = error.errors()
    errors = [{"field": _field(mistake), "message": _message(mistake)} for mistake in mistakes]
    in_body = any(mistake["loc"][:1] == ("body",) for mistake in mistakes)
    kind = InvalidSpec if in_body else InvalidInput
    mistakes = "; ".join(": ".join(filter(None, mistake.values())) for mistake in errors)
    return of_error(kind(mistakes, errors=errors), request_id_of(request))


def _field(mistake: Mapping[str, Any]) -> str:
    if mistake["type"] == "json_invalid":
        return ""
    return ".".join(str(step) for step in mistake["loc"][1:])


def _message(mistake: Mapping[str, Any]) -> str:
    if mistake["type"] == "json_invalid":
        return f"not JSON: {mistake.get('ctx', {}).get('error', 'it cannot be parsed')}"
    return str(mistake["msg"]).removeprefix("Value error, ")


def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    slug, title = HTTP_TYPES.get(error.status_code, OTHER)
    detail = f"{request.method} {request.url.path}: {title[0].lower()}{title[1:]}"
    answer = problem(slug, title, error.status_code, detail, request_id_of(request))
    answer.headers.update(error.headers or {})
    if error.status_code == 405:
        answer.headers["Allow"] = ", ".join(sorted(_methods(request)))
    return answer


def _methods(request: Request) -> set[str]:
    """Return the methods that the request's path takes; Starlette names those of the first route alone."""
    scope: Scope = {**request.scope, "path_params": {}}
    known = {"GET", "POST", "PUT", "PATCH", "DELETE"}
    found = {method for method in known for route in request.app.router.routes if _takes(route, scope, method)}
    return found | ({"HEAD"} if "GET" in found else set())


def _takes(route: BaseRoute, scope: Scope, method: str) -> bool:
    return route.matches({**scope, "method": method})[0] is Match.FULL


def _redis_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RedisError)
    found = unavailable(error)
    if found is None:
        raise error  # a fault of ours; coreset_service.http.middleware answers it
    return _coreset_error(request, found)


def _storage_error(request: Request, error: Exception) -> JSONResponse:
    """Only the storage raises OSError here. Its text names paths of ours, so it goes to the log alone."""
    log.error("storage does not answer", exc_info=error)
    slug, (title, status) = "unavailable", all_types()["unavailable"]
    return problem(slug, title, status, "the storage does not answer; try again", request_id_of(request))
