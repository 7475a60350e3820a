"""Files wherever they lie. The only door to what a spec names: what is opened here is allowed, whatever leads there.

A local path is followed to its end first, so that no link leads out of the allowed folders. An http host is resolved by
us, and each redirect is judged like a URI of its own.
"""

import asyncio
import functools
import os
import posixpath
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO, cast

import fsspec

from coreset.access.addresses import require_public
from coreset.access.locations import Location, Locations, located
from coreset.errors import CoresetError, LocationForbidden
from coreset.storage.complete_reads import reading_whole
from coreset.storage.storage import missing_library

REFUSALS = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
"""What trying again does not change; other OSErrors, such as an answer of 500, may be gone at the next attempt."""

_locations = Locations()


def allow(locations: Locations) -> None:
    """Set what this process may open; by default all that Locations() allows."""
    global _locations
    _locations = locations


def allowed() -> Locations:
    return _locations


def absolute(uri: str) -> str:
    """Return a local path as an absolute one, without `file:`; a URI stays.

    Raises:
        LocationForbidden: it is not allowed.
    """
    place = _located(uri)
    return _path(place) if place.scheme == "file" else uri


def open_file(uri: str) -> BinaryIO:
    """Open a file for reading, byte for byte as it lies there: a compressed one is not unpacked.

    Raises:
        LocationForbidden, AddressForbidden: it is not allowed.
        InvalidInput: the library for this file system is not installed.
        OSError, ValueError: no such file, or no such file system.
    """
    with _telling():
        fs, path = _resolved(uri)
        return cast(BinaryIO, fs.open(path, "rb"))


def file_info(uri: str) -> dict[str, Any]:
    """Return what the file system says of a file: size, type and more. Raises as open_file does."""
    with _telling():
        fs, path = _resolved(uri)
        return fs.info(path)


def names_in(directory: str) -> list[str]:
    """Return the base names in a directory. Raises as open_file does."""
    with _telling():
        fs, path = _resolved(directory)
        return [posixpath.basename(name.rstrip("/")) for name in fs.ls(path, detail=False)]


@contextmanager
def _telling() -> Iterator[None]:
    """Raise our own refusal where fsspec has made a FileNotFoundError of it."""
    try:
        yield
    except ImportError as error:
        raise missing_library(error) from error
    except OSError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, CoresetError):
            cause = cause.__cause__ or cause.__context__
        if cause is not None:
            raise cause from None
        raise


def _located(uri: str) -> Location:
    """Check what the name says. A relative path is one below the worker's folder."""
    place = located(uri)
    if place.scheme == "file" and not place.path.startswith("/"):
        return _locations.check(str(Path.cwd() / place.path))
    return _locations.check(uri)


def _path(place: Location) -> str:
    return place.path if place.path.startswith("/") else str(Path.cwd() / place.path)


def _resolved(uri: str) -> tuple[Any, str]:
    place = _located(uri)
    if place.scheme == "file":
        return fsspec.filesystem("file"), _followed(uri, _path(place))
    if place.scheme in ("http", "https"):
        fs = fsspec.filesystem(place.scheme, get_client=_client(_locations), use_listings_cache=False)
        return reading_whole(fs), uri
    # Without a cache of listings: a shard that was written anew since would have the size and the tag of before.
    fs = fsspec.filesystem(place.scheme, use_listings_cache=False)
    return reading_whole(fs), fs._strip_protocol(uri)


def _followed(uri: str, path: str) -> str:
    """Return where a path leads in the end; the folders that are allowed are followed too, as they may be links."""
    real = os.path.realpath(path)
    folders = [prefix.path for prefix in _locations.allowed if prefix.scheme == "file"]
    roots = [Location("file", "", os.path.realpath(folder or "/")) for folder in folders]
    if _locations.allowed and not any(root.holds(Location("file", "", real)) for root in roots):
        raise LocationForbidden(f"{uri} is not allowed: it is a link that leads out of the allowed folders", uri=uri)
    return real


@functools.cache
def _client(locations: Locations) -> Any:
    """Return what makes fsspec's http session: the same function for the same rules, since fsspec caches by it."""

    async def client(**options: Any) -> Any:
        import aiohttp  # comes with s3fs

        trace = aiohttp.TraceConfig()
        trace.on_request_redirect.append(functools.partial(_judge_redirect, locations))
        connector = aiohttp.TCPConnector(resolver=cast(Any, _Resolver(locations)))
        return aiohttp.ClientSession(connector=connector, trace_configs=[trace], **options)

    return client


async def _judge_redirect(locations: Locations, session: object, context: SimpleNamespace, redirect: Any) -> None:
    target = redirect.response.headers.get("Location") or redirect.response.headers.get("URI") or ""
    locations.check(str(redirect.url.join(type(redirect.url)(target))))


class _Resolver:
    """aiohttp's resolver: it connects to the addresses that come from here, and asks for names only.

    Addresses as hosts are judged by Locations.check.
    """

    def __init__(self, locations: Locations) -> None:
        self._locations = locations

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> list[dict[str, Any]]:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family)
        if not self._locations.trusts(host):
            require_public(host, [str(entry[4][0]) for entry in found])
        return [
            {"hostname": host, "host": where[0], "port": port, "family": kind, "proto": proto, "flags": 0}
            for kind, _, proto, _, where in found
        ]

    async def close(self) -> None:
        """Nothing is held."""
