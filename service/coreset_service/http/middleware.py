"""Around every request: an id, a limit on the body, a line in the log, and a problem for what nobody caught."""

import re
import time
import uuid
from collections.abc import Callable

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coreset_service.http import problems

REQUEST_ID = "X-Request-ID"
_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

log = structlog.get_logger("service.http")


class Envelope:
    """The outermost layer.

    Args:
        answered: told each request's scope, the status, and the seconds until the answer began.
    """

    def __init__(self, app: ASGIApp, answered: Callable[[Scope, int, float], object]) -> None:
        self._app = app
        self._answered = answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope["request_id"] = request_id
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            await self._answer(scope, receive, _Labelled(send, request_id))

    async def _answer(self, scope: Scope, receive: Receive, send: "_Labelled") -> None:
        start = time.perf_counter()
        try:
            await self._app(scope, receive, send)
        except Exception:
            log.exception("unhandled error")
            if send.started_at:  # too late for another answer; the server closes the connection
                raise
            await problems.internal(send.request_id)(scope, receive, send)
        finally:
            ended = time.perf_counter()
            self._answered(scope, send.status, (send.started_at or ended) - start)
            told = {"job": scope["path_params"]["job_id"]} if "job_id" in scope.get("path_params", {}) else {}
            told |= {"status": send.status, "seconds": round(ended - start, 4)}
            log.info("request", method=scope["method"], path=scope["path"], **told)


class BodyTooLarge(Exception):
    pass


class BodyLimit:
    """Answers larger bodies with 413. A body is read here as a whole, so bodies that do not announce their length too.

    Args:
        max_bytes: of a request's body.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            receive = await self._limited(scope, receive)
        except BodyTooLarge:
            slug, title = problems.HTTP_TYPES[413]
            detail = f"the body may have {self._max_bytes} bytes at most"
            answer = problems.problem(slug, title, 413, detail, str(scope.get("request_id", "")))
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _limited(self, scope: Scope, receive: Receive) -> Receive:
        length = Headers(scope=scope).get("content-length", "0")
        if length.isdigit() and int(length) > self._max_bytes:
            raise BodyTooLarge
        body, more = bytearray(), True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return _replay([message], receive)
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self._max_bytes:
                raise BodyTooLarge
        return _replay([{"type": "http.request", "body": bytes(body), "more_body": False}], receive)


class _Labelled:
    """Sends, with the request's id in the headers."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self.request_id = request_id
        self.started_at = 0.0
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started_at = time.perf_counter()
            self.status = message["status"]
            MutableHeaders(scope=message)[REQUEST_ID] = self.request_id
        await self._send(message)


def _request_id(scope: Scope) -> str:
    given = Headers(scope=scope).get(REQUEST_ID, "")
    return given if _SAFE_ID.fullmatch(given) else uuid.uuid4().hex


def _replay(messages: list[Message], receive: Receive) -> Receive:
    async def replayed() -> Message:
        return messages.pop(0) if messages else await receive()

    return replayed
