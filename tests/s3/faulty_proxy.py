"""An HTTP proxy in front of a server that answers badly now and then: errors, slow, cut-off and shortened answers."""

import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

SLICES = 8
"""Pieces in which a slow answer comes."""

KEPT_HEADERS = ("Content-Type", "ETag", "Last-Modified", "Content-Range", "Accept-Ranges", "x-amz-version-id")

Choose = Callable[[str, str], str | None]
"""(method, path) -> the fault for this request: `error`, `slow`, `cut`, `short`, or None."""


class FaultyProxy:
    """Forwards to 127.0.0.1:`port`, and spoils the answers that `choose` names; safe from any thread.

    - `error`: 500 with S3's error body; the server never sees the request.
    - `lost`: the server does what is asked, but the answer is 500.
    - `slow`: the body comes in pieces over `slow_seconds`.
    - `cut`: the headers announce all of the body, half of it comes, and the connection ends.
    - `short`: half of the body comes, and the headers announce no more than that.

    Attributes:
        choose: may be changed at any time.
        counts: number of requests by fault; those without one are under None.
    """

    def __init__(self, port: int, choose: Choose = lambda method, path: None, slow_seconds: float = 0.4) -> None:
        self.choose = choose
        self.counts: Counter[str | None] = Counter()
        self._slice_seconds = slow_seconds / SLICES
        self._server_port = port
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _forward(self) -> None:
                proxy.forward(self)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _forward  # noqa: N815

            def log_message(self, *message: Any) -> None:  # pyright: ignore
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def forward(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        with self._lock:
            fault = self.choose(request.command, request.path)
            self.counts[fault] += 1
        if fault == "error":
            return self._fail(request)
        status, headers, answer = self._ask(request, body)
        if fault == "lost":
            return self._fail(request)
        return self._answer(request, status, headers, answer, fault)

    def _ask(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._server_port, timeout=60)
        headers = {name: value for name, value in request.headers.items() if name.lower() != "expect"}
        connection.request(request.command, request.path, body, headers)
        response = connection.getresponse()
        answer = response.read()
        kept = [(name, value) for name in KEPT_HEADERS if (value := response.getheader(name))]
        length = response.getheader("Content-Length") if request.command == "HEAD" else str(len(answer))
        connection.close()
        return response.status, [*kept, ("Content-Length", length or "0")], answer

    def _fail(self, request: BaseHTTPRequestHandler) -> None:
        body = b"<Error><Code>InternalError</Code><Message>as asked</Message></Error>"
        self._answer(request, 500, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))], body)

    def _answer(
        self,
        request: BaseHTTPRequestHandler,
        status: int,
        headers: list[tuple[str, str]],
        body: bytes,
        fault: str | None = None,
    ) -> None:
        half = body[: len(body) // 2]
        if fault == "short":
            headers = [(name, str(len(half)) if name == "Content-Length" else value) for name, value in headers]
        request.send_response(status)
        for name, value in headers:
            request.send_header(name, value)
        request.end_headers()
        if request.command == "HEAD":
            return
        if fault in ("cut", "short"):
            request.wfile.write(half)
            request.close_connection = fault == "cut"
        elif fault == "slow":
            self._slowly(request, body)
        else:
            request.wfile.write(body)

    def _slowly(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        step = max(1, -(-len(body) // SLICES))
        for first in range(0, len(body), step):
            time.sleep(self._slice_seconds)
            request.wfile.write(body[first : first + step])
            request.wfile.flush()


def now_and_then(fault: str, share: float, seed: int, methods: tuple[str, ...] = ("GET", "PUT", "POST")) -> Choose:
    """Return a choice that spoils about that share of the requests, the same ones for the same seed and order."""
    drawn = random.Random(seed)
    return lambda method, path: fault if method in methods and drawn.random() < share else None
