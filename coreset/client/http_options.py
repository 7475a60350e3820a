"""Options of the HTTP connection, for both clients."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import httpx

from coreset.access.addresses import is_loopback
from coreset.errors import InvalidInput

HTTP_SECONDS = 30.0
"""Timeout of a read; longer than a long poll, and than the pause between the comments of an event stream."""


def http_options(url: str, api_key: str | None) -> dict[str, Any]:
    """Return the arguments of httpx's clients.

    A service on this machine is reached without the environment's proxies (HTTP_PROXY, ALL_PROXY).
    """
    try:
        own_machine = is_loopback(httpx.URL(url).host)
    except httpx.InvalidURL as error:
        raise InvalidInput(f"{url} is not the URL of a service ({error}); write http://HOST:PORT") from error
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    return {"base_url": url, "headers": headers, "timeout": HTTP_SECONDS, "trust_env": not own_machine}


@contextmanager
def proxy_errors() -> Generator[None]:
    """Raise InvalidInput if the environment names a proxy that httpx cannot use."""
    try:
        yield
    except (ImportError, ValueError) as error:
        raise InvalidInput(f"a proxy of the environment (HTTP_PROXY, ALL_PROXY) cannot be used: {error}") from error
