"""Who may call: by API key where there are keys, at a rate, and never through another site's page.

Without keys everybody who reaches the service may use it: on the loopback, or where CORESET_OPEN says so.
Then web pages are the ones to keep out, since a browser on this machine reaches the loopback too.
"""

import ipaddress
import math
import time
from typing import cast
from urllib.parse import quote, urlsplit

import structlog
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from coreset.access.api_keys import ApiKey, Keyring
from coreset.access.api_keys import Scope as KeyScope
from coreset.errors import CoresetError, Forbidden, TooManyRequests, Unauthorized
from coreset_service.http import problems

COOKIE = "coreset_key"
OPEN_PATHS = frozenset({"/healthz", "/readyz", "/version", "/openapi.json", "/docs", "/login", "/logout", "/problems"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
LOCAL_SUFFIXES = (".localhost", ".local", ".internal", ".svc")
"""Of names that no one can register: DNS rebinding needs one that resolves where its owner likes."""


class Guard:
    """Answers 401, 403 and 429 itself, before a body is read; tells the routes who calls in `request.state.caller`.

    Args:
        rate: requests a minute and key; without a valid key, a minute and address.
    """

    def __init__(self, app: ASGIApp, keyring: Keyring, rate: int) -> None:
        self._app = app
        self._keyring = keyring
        self._rate = RateLimitItemPerMinute(rate)
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        try:
            caller = self._caller(request)
        except CoresetError as error:
            await _refusal(request, error)(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = caller.name if caller else None
        with structlog.contextvars.bound_contextvars(**({"caller": caller.name} if caller else {})):
            await self._app(scope, receive, send)

    def _caller(self, request: Request) -> ApiKey | None:
        """Return the key that the caller holds, None where none is asked for.

        Raises:
            Unauthorized, Forbidden, TooManyRequests: they may not pass.
        """
        address = request.client.host if request.client else ""
        if is_open(request.url.path):
            if request.method not in SAFE_METHODS:  # somebody tries keys
                self._count("address", address)
            return None
        if not self._keyring:
            _require_own_page(request)
            return None
        bearer, cookie = _bearer(request), request.cookies.get(COOKIE)
        found = self._keyring.find(bearer or cookie or "")
        if found is None:
            self._count("address", address)
            raise Unauthorized(
                "this key is not valid" if bearer or cookie else "send an API key: `Authorization: Bearer KEY`"
            )
        self._count("key", found.name)
        if bearer is None:
            _require_same_origin(request)
        _require_scope(request, found)
        return found

    def _count(self, kind: str, who: str) -> None:
        if not self._limiter.hit(self._rate, kind, who):
            opens_at = self._limiter.get_window_stats(self._rate, kind, who).reset_time
            wait = max(1, math.ceil(opens_at - time.time()))
            raise TooManyRequests(f"{self._rate.amount} requests a minute are allowed", retry_after=wait)


def is_open(path: str) -> bool:
    """Tell whether a path asks for no key: probes, versions, what the API is, how pages look, and the way to log in."""
    return path in OPEN_PATHS or path.startswith(("/problems/", "/static/"))


def _bearer(request: Request) -> str | None:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None


def _require_scope(request: Request, key: ApiKey) -> None:
    needed: KeyScope = "read" if request.method in SAFE_METHODS else "submit"
    if needed not in key.scopes:
        raise Forbidden(f"the key of {key.name} has no scope `{needed}`", needed=needed)


def _require_same_origin(request: Request) -> None:
    """Raise Forbidden if another site's page changes something with our cookie. A browser says where it comes from."""
    if request.method not in SAFE_METHODS and not _own_origin(request):
        raise Forbidden("this comes from another site's page")


def _require_own_page(request: Request) -> None:
    """Raise Forbidden if a web page of somebody else's is behind the request, by its origin or by DNS rebinding."""
    if not _local_name(request.headers.get("host", "")):
        raise Forbidden("without API keys the service answers to IP addresses and local names only")
    if "origin" in request.headers and not _own_origin(request):
        raise Forbidden("this comes from another site's page")


def _own_origin(request: Request) -> bool:
    origin = request.headers.get("origin", "")
    return bool(origin) and urlsplit(origin).netloc == request.headers.get("host")


def _local_name(host: str) -> bool:
    name = _name(host)
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return bool(name) and ("." not in name or name.endswith(LOCAL_SUFFIXES))
    return True


def _name(host: str) -> str:
    """Return a Host header without its port, empty if it cannot be read."""
    try:
        return "" if "@" in host else urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _refusal(request: Request, error: CoresetError) -> Response:
    if isinstance(error, Unauthorized) and request.method == "GET" and _wants_page(request):
        path = quote(request.url.path)
        return RedirectResponse(f"/login?next={path}", 303)
    return problems.of_error(error, problems.request_id_of(request))


def _wants_page(request: Request) -> bool:
    return not request.url.path.startswith("/v1/") and "text/html" in request.headers.get("accept", "")


def caller_of(request: Request) -> str | None:
    """Return the name of the key that the request came with."""
    return cast(str | None, getattr(request.state, "caller", None))
