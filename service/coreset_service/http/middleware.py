"""Around every request: an id, safe headers, HEAD for each GET, a line in the log, a problem for uncaught errors."""

import re
import time
import uuid
from collections.abc import Callable

import anyio
import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coreset_service.http import problems

REQUEST_ID = "X-Request-ID"
LOGGED_PATH = 200
"""Characters of a path in the log; a path may have 60,000."""
REFUSALS_PER_SECOND = 20
"""Lines in the log for refused requests (4xx); the others of that second are counted."""
_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

log = structlog.get_logger("service.http")


class Envelope:
    """The outermost layer.

    Args:
        answered: called with each request's scope, the status, and the seconds until the answer began.
    """

    def __init__(self, app: ASGIApp, answered: Callable[[Scope, int, float], object]) -> None:
        self._app = app
        self._answered = answered
        self._refusals = Sample(REFUSALS_PER_SECOND)

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
        inner, hear, say = (scope, receive, send) if scope["method"] != "HEAD" else _as_get(scope, receive, send)
        try:
            await self._app(inner, hear, say)
        except Exception:
            log.exception("unhandled error")
            if send.started_at:  # too late for another answer; the server closes the connection
                raise
            await problems.internal(send.request_id)(scope, receive, send)
        finally:
            ended = time.perf_counter()
            self._answered({**inner, "method": scope["method"]}, send.status, (send.started_at or ended) - start)
            self._log(inner, scope["method"], send.status, ended - start)

    def _log(self, scope: Scope, method: str, status: int, seconds: float) -> None:
        left_out = self._refusals.left_out() if 400 <= status < 500 else 0
        if left_out is None:
            return
        about = {"job": scope["path_params"]["job_id"]} if "job_id" in scope.get("path_params", {}) else {}
        about |= {"status": status, "seconds": round(seconds, 4)}
        about |= {"refusals_not_logged": left_out} if left_out else {}
        log.info("request", method=method[:20], path=_cut(scope["path"]), **about)


class Sample:
    """Lets some events of each second pass, and counts the others.

    Args:
        per_second: events that pass.
    """

    def __init__(self, per_second: int, now: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._now = now
        self._second = float("-inf")
        self._passed = 0
        self._left_out = 0

    def left_out(self) -> int | None:
        """Return None if this event is to be left out, else how many were since the last one that passed."""
        second = self._now() // 1
        if second != self._second:
            self._second, self._passed = second, 0
        if self._passed >= self._per_second:
            self._left_out += 1
            return None
        self._passed += 1
        left_out, self._left_out = self._left_out, 0
        return left_out


def _cut(path: str) -> str:
    return path if len(path) <= LOGGED_PATH else f"{path[:LOGGED_PATH]}... ({len(path)} characters)"


def _as_get(scope: Scope, receive: Receive, send: Send) -> tuple[Scope, Receive, Send]:
    """Return a GET in the place of a HEAD. Once its headers are sent, the app sees a caller that has left."""
    done = anyio.Event()

    async def hear() -> Message:
        if not done.is_set():
            return await receive()
        return {"type": "http.disconnect"}

    async def say(message: Message) -> None:
        if done.is_set():
            return
        await send(message)
        if message["type"] == "http.response.start":
            done.set()
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    return {**scope, "method": "GET"}, hear, say


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
            headers = MutableHeaders(scope=message)
            headers[REQUEST_ID] = self.request_id
            headers["X-Content-Type-Options"] = "nosniff"
        await self._send(message)


def _request_id(scope: Scope) -> str:
    given = Headers(scope=scope).get(REQUEST_ID, "")
    return given if _SAFE_ID.fullmatch(given) else uuid.uuid4().hex
