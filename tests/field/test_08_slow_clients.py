"""Point 8: clients that send half a request do not make the service deaf, do not fill its memory and not its log."""

import logging
import socket
from pathlib import Path

import pytest

from coreset_service.http.bodies import UNFINISHED_OF_ONE
from coreset_service.http.connections import MAX_CONNECTIONS, OnceInAWhile
from tests.field.clients import answers, half_sent, resident, running, still_open

HEAD = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "
LENGTH = 1024 * 1024
BODY = (
    b"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    % LENGTH
)


@pytest.mark.slow
def test_half_heads_and_unfinished_bodies(redis_url: str, tmp_path: Path) -> None:
    with running(redis_url, tmp_path) as (port, process, log):
        before = resident(process)
        with half_sent(port, 1100, HEAD) as sockets:
            assert answers(port)
            assert still_open(sockets) <= MAX_CONNECTIONS
            logged = log.stat().st_size
            assert all(answers(port) for _ in range(5))
            assert log.stat().st_size - logged < 20_000
            assert b"accept" not in log.read_bytes()
        with half_sent(port, 400, BODY + b"x" * 300_000) as sockets:
            assert answers(port)
            assert still_open(sockets) <= UNFINISHED_OF_ONE
            assert resident(process) - before < 150, "MB; 400 bodies took 500"
        assert answers(port)


def test_a_body_on_an_open_path_is_small(redis_url: str, tmp_path: Path) -> None:
    with running(redis_url, tmp_path) as (port, _, _), socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(10)
        client.sendall(b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 4097\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 413")


def test_a_repeated_warning_is_logged_once_with_its_number() -> None:
    passes = OnceInAWhile()

    def warning(text: str = "socket.accept() out of system resource") -> logging.LogRecord:
        return logging.LogRecord("asyncio", logging.WARNING, "", 0, text, (), None)

    assert [passes.filter(warning()) for _ in range(1000)] == [True] + [False] * 999
    assert passes.filter(warning("another"))
    passes._passed.clear()
    last = warning()
    assert passes.filter(last)
    assert "999 more like this" in last.getMessage()
