"""Request bodies: read whole before the app runs, within bounds of size, time, number and content."""

import asyncio
import json
import re
from collections.abc import Mapping
from typing import Any, cast

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coreset.errors import CoresetError, InvalidSpec, TooManyRequests
from coreset_service.http import problems
from coreset_service.http.auth import is_open, payer_of
from coreset_service.http.limits import AtOnce, Rates

BODY_SECONDS = 30.0
"""From a request's head to the end of its body."""
OPEN_BYTES = 4096
"""Of a body on a path that needs no key: a login's form."""
UNFINISHED_OF_ONE = 16
"""Bodies that one caller may be sending at a time, and with them the memory that these take."""
UNFINISHED = 128
"""Bodies of all callers that are being read at a time."""
BODIES_PER_MINUTE = 16
"""Bytes of bodies that a caller may send in a minute, in bodies of the largest size."""

_ODD = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
"""Escapes of NUL and of surrogates. Raw ones are no JSON and no UTF-8, which parsing refuses."""
_SURROGATE = re.compile(r"[\ud800-\udfff]")


class Refused(Exception):
    """A body that is refused with a problem of HTTP's own: its status and detail."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class Bodies:
    """Reads bodies, also those that do not announce their length, and answers what is out of bounds.

    Args:
        max_bytes: of a body on a path that needs a key.
        rates: counts bytes a minute and caller.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, rates: Rates) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._rates = rates
        self._unfinished = AtOnce(UNFINISHED_OF_ONE)
        self._reading = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = str(scope.get("request_id", ""))
        try:
            messages = await self._read(scope, receive)
        except Refused as refused:
            slug, title = problems.HTTP_TYPES[refused.status]
            answer = problems.problem(slug, title, refused.status, refused.detail, request_id)
            answer.headers["Connection"] = "close"  # the rest of the body is not read
            await answer(scope, receive, send)
            return
        except CoresetError as error:
            answer = problems.of_error(error, request_id)
            answer.headers["Connection"] = "close"
            await answer(scope, receive, send)
            return
        await self._app(scope, _replay(messages, receive), send)

    async def _read(self, scope: Scope, receive: Receive) -> list[Message]:
        headers = Headers(scope=scope)
        limit = OPEN_BYTES if is_open(scope["path"]) else self._max_bytes
        length = headers.get("content-length", "0")
        if length.isdigit() and (len(length) > 18 or int(length) > limit):
            raise _too_large(limit)
        first = await self._received(receive)
        body = first.get("body", b"")
        if first["type"] != "http.request" or (not body and not first.get("more_body")):
            return [first]
        if scope["path"].startswith("/v1/"):
            _require_json(headers)
        if first.get("more_body"):
            body = await self._rest(scope, receive, body, limit)
            if body is None:
                return [{"type": "http.disconnect"}]
        if len(body) > limit:
            raise _too_large(limit)
        self._rates.count_bytes(payer_of(scope), len(body))
        if scope["path"].startswith("/v1/"):
            _require_plain_text(body)
        return [{"type": "http.request", "body": bytes(body), "more_body": False}]

    async def _received(self, receive: Receive) -> Message:
        try:
            async with asyncio.timeout(BODY_SECONDS):
                return await receive()
        except TimeoutError:
            raise _too_late() from None

    async def _rest(self, scope: Scope, receive: Receive, begun: bytes, limit: int) -> bytes | None:
        """Return the whole body, None if the caller leaves."""
        if self._reading >= UNFINISHED:
            raise TooManyRequests(f"{UNFINISHED} bodies are being received; send this one again", retry_after=2)
        self._reading += 1
        try:
            with self._unfinished.one_of(payer_of(scope)):
                async with asyncio.timeout(BODY_SECONDS):
                    return await _to_the_end(receive, begun, limit)
        except TimeoutError:
            raise _too_late() from None
        finally:
            self._reading -= 1


async def _to_the_end(receive: Receive, begun: bytes, limit: int) -> bytes | None:
    body, more = bytearray(begun), True
    while more:
        if len(body) > limit:
            raise _too_large(limit)
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return bytes(body)


def _require_json(headers: Headers) -> None:
    """Raises Refused: the service reads plain JSON only."""
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise Refused(415, f"the body is compressed ({encoding[:50]}); send it as it is, without Content-Encoding")
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        sent = f"the Content-Type is {kind[:100]!r}" if kind else "the body has no Content-Type"
        raise Refused(415, f"{sent}; send JSON with `Content-Type: application/json`")


def _require_plain_text(body: bytes) -> None:
    """Raise InvalidSpec for strings that cannot be stored: with NUL, or with half of a surrogate pair."""
    if not _ODD.search(body):
        return
    try:
        field = _odd_field(json.loads(body))
    except (ValueError, RecursionError):
        return  # no JSON, which the route says better
    if field is not None:
        message = "contains NUL or half of a surrogate pair, which are no text; leave these characters out"
        raise InvalidSpec(f"{field}: {message}", errors=[{"field": field, "message": message}])


def _odd_field(value: Any, path: str = "") -> str | None:
    """Return the path of the first string that is no text."""
    if isinstance(value, str):
        return path if "\0" in value or _SURROGATE.search(value) else None
    if isinstance(value, list):
        pairs = list(enumerate(cast(list[Any], value)))
    elif isinstance(value, dict):
        pairs = list(cast(Mapping[str, Any], value).items())
        if any(_odd_field(name) is not None for name, _ in pairs):
            return path
    else:
        return None
    found = (_odd_field(inner, f"{path}.{name}".lstrip(".")) for name, inner in pairs)
    return next((field for field in found if field is not None), None)


def _too_large(limit: int) -> Refused:
    return Refused(413, f"the body may have {limit:,} bytes at most on this path")


def _too_late() -> Refused:
    return Refused(408, f"the body did not arrive within {BODY_SECONDS:.0f} s; send it again")


def _replay(messages: list[Message], receive: Receive) -> Receive:
    async def replayed() -> Message:
        return messages.pop(0) if messages else await receive()

    return replayed
