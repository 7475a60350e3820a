"""Authentication: API keys and browser sessions, limits by caller, and protection against other sites' pages.

Without keys everyone who reaches the service may use it: on the loopback, or where CORESET_OPEN allows more. Web pages
are kept out even then, since a browser on this machine reaches the loopback too.
"""

import ipaddress
from collections.abc import Generator
from contextlib import contextmanager
from typing import cast
from urllib.parse import quote, urlsplit

import structlog
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coreset.access.api_keys import ApiKey, Keyring
from coreset.access.api_keys import Scope as KeyScope
from coreset.errors import CoresetError, Forbidden, Unauthorized
from coreset_service.http import problems
from coreset_service.http.limits import MAX_AT_ONCE, AtOnce, Rates, network_of
from coreset_service.http.sessions import COOKIE, Sessions

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/version", "/openapi.json", "/docs", "/login", "/logout", "/problems"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
LOCAL_SUFFIXES = (".localhost", ".local", ".internal", ".svc")
"""Of names that nobody can register: DNS rebinding needs one that its owner can point anywhere."""


class Guard:
    """Answers 401, 403 and 429 itself, before a body is read; passes the caller on in `request.state`.

    `caller` is the name of the key, None without one; `payer` is what limits are counted by, a key or an address.
    """

    def __init__(self, app: ASGIApp, keyring: Keyring, sessions: Sessions, rates: Rates) -> None:
        self._app = app
        self._keyring = keyring
        self._sessions = sessions
        self._rates = rates
        self._at_once = AtOnce(MAX_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        try:
            key = await self._key(request)
            payer = f"key {key.name}" if key else f"address {address_of(request)}"
            with self._at_once.one_of(payer), _known(scope, key, payer):
                await self._app(scope, receive, _uncached(send) if key else send)
        except CoresetError as error:
            await _refusal(request, error)(scope, receive, send)

    async def _key(self, request: Request) -> ApiKey | None:
        """Return the caller's key, None where none is needed.

        Raises:
            Unauthorized, Forbidden, TooManyRequests: the request must not pass.
            Unavailable: a session cannot be read.
        """
        if is_open(request.url.path):
            if request.method not in SAFE_METHODS:
                _require_no_other_site(request)
            return None
        if not self._keyring:
            _require_own_page(request)
            return None
        sent = request.headers.get("authorization")
        # A header, even an empty one, is all that counts: a cookie beside it comes from a browser by itself.
        key = await self._by_cookie(request) if sent is None else self._keyring.find(_bearer(sent))
        if key is None:
            self._rates.count_request("failure", address_of(request))
            raise Unauthorized(
                "no API key was sent; send one in the header `Authorization`, as `Bearer` and the key"
                if sent is None
                else "this API key is not valid; `coreset key new` makes keys, and the operator adds their lines"
            )
        self._rates.count_request("key", key.name)
        if sent is None:
            _require_same_origin(request)
        _require_scope(request, key)
        return key

    async def _by_cookie(self, request: Request) -> ApiKey | None:
        token = request.cookies.get(COOKIE)
        return await run_in_threadpool(self._sessions.find, token) if token else None


def is_open(path: str) -> bool:
    """Return whether a path needs no key: probes, the version, the API's description, scripts and styles, the login."""
    return path in OPEN_PATHS or path.startswith(("/problems/", "/static/"))


def address_of(request: Request) -> str:
    """Return the address that failures are counted for."""
    return network_of(request.client.host) if request.client else ""


@contextmanager
def _known(scope: Scope, key: ApiKey | None, payer: str) -> Generator[None]:
    name = key.name if key else None
    scope.setdefault("state", {}).update(caller=name, payer=payer)
    with structlog.contextvars.bound_contextvars(**({"caller": name} if name else {})):
        yield


def _uncached(send: Send) -> Send:
    """Have answers to a key revalidated at each use: a browser must not show them after the logout."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            if "no-store" not in headers.get("cache-control", ""):
                headers["Cache-Control"] = "private, no-cache"
            headers.add_vary_header("Authorization")
            headers.add_vary_header("Cookie")
        await send(message)

    return sending


def _bearer(header: str) -> str:
    scheme, _, key = header.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def _require_scope(request: Request, key: ApiKey) -> None:
    needed: KeyScope = "read" if request.method in SAFE_METHODS else "submit"
    if needed not in key.scopes:
        raise Forbidden(f"the key of {key.name} has no scope `{needed}`, which {request.method} needs", needed=needed)


def _require_same_origin(request: Request) -> None:
    """Raise Forbidden if another site's page changes something with our cookie: browsers send the page's origin."""
    if request.method not in SAFE_METHODS and not _own_origin(request):
        raise _other_site(request)


def _require_no_other_site(request: Request) -> None:
    """Raise Forbidden if another site's page logs a browser in or out. Programs other than browsers send no origin."""
    if "origin" in request.headers and not _own_origin(request):
        raise _other_site(request)


def _require_own_page(request: Request) -> None:
    """Raise Forbidden if another site's page sent the request, by its origin or by DNS rebinding."""
    host = request.headers.get("host", "")
    if not _local_name(host):
        raise Forbidden(
            f"without API keys the service answers to IP addresses and local names only, not to {host[:100]!r}; "
            "call it by its address, or set API keys"
        )
    _require_no_other_site(request)


def _other_site(request: Request) -> Forbidden:
    origin = request.headers.get("origin", "no page")[:100]
    return Forbidden(
        f"the request comes from {origin}, another site than this service; use this service's own pages, or send an "
        "API key in the header `Authorization`"
    )


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


def payer_of(scope: Scope) -> str:
    """Return the key or the address that limits are counted by."""
    return str(scope.get("state", {}).get("payer", ""))
