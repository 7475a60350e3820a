"""Files that a spec names, on any file system, opened only if they are allowed. No other module opens them.

Links of a local path are resolved first, so that none leads out of the allowed folders. An http host is resolved here,
and each redirect is checked like a URI of its own. Devices, pipes and sockets are refused: /dev/zero has no end.
"""

import asyncio
import functools
import glob
import os
import posixpath
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO, cast

import fsspec

from coreset.access.addresses import require_public
from coreset.access.locations import Location, Locations, located
from coreset.errors import CoresetError, LocationForbidden, ShardUnreadable
from coreset.storage.complete_reads import missing_library, with_complete_reads

REFUSALS = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
"""Errors that another attempt does not change; other OSErrors, such as an answer of 500, may pass."""

MAX_MATCHES = 4_000_000
"""Files that one pattern may match."""

MAX_STARS = 3
"""Folders and names of a pattern with `*`: each more is a level of folders that is listed whole."""

LISTABLE = ("s3://", "gs://")
"""Schemes whose listings have the sizes and version tags that asking for a file gives."""

FOLDER_FILES = ("*.tar", "*.arrow", "*.parquet", "metadata.jsonl", "metadata.csv")
"""Files that a folder stands for, the first kind that it has: beside img2dataset's tars are Parquets without images."""

HUGGING_FACE_CACHES = ("cache-", "indices")
"""Beginnings of the names of files in which the library `datasets` keeps other things than samples."""

_locations = Locations()


def allow(locations: Locations) -> None:
    """Set the locations that this process may open; the default is Locations()."""
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
    """Open a file for reading, byte for byte as it is stored: a compressed one is not unpacked.

    Raises:
        LocationForbidden, AddressForbidden: it is not allowed, or is no regular file.
        InvalidInput: the library for this file system is not installed.
        OSError, ValueError: no such file, or no such file system.
    """
    with _own_errors():
        fs, path = _resolved(uri)
        return cast(BinaryIO, fs.open(path, "rb"))


def file_info(uri: str) -> dict[str, Any]:
    """Return the file system's entry of a file: size, type and more. Raises as open_file does."""
    with _own_errors():
        fs, path = _resolved(uri)
        return fs.info(path)


def names_in(directory: str) -> list[str]:
    """Return the base names in a directory. Raises as open_file does."""
    with _own_errors():
        fs, path = _resolved(directory)
        return [posixpath.basename(name.rstrip("/")) for name in fs.ls(path, detail=False)]


def entries_in(folder: str) -> dict[str, dict[str, Any]] | None:
    """Return the file system's entries of a folder by name; None if it cannot be listed, or not by few requests."""
    if not folder.startswith(LISTABLE):
        return None
    try:
        fs, path = _resolved(folder)
        return {posixpath.basename(entry["name"].rstrip("/")): entry for entry in fs.ls(path, detail=True)}
    except OSError:
        return None  # a key may read files that it may not list


def below(folder: str, path: str) -> str:
    """Return the URI of a file below a folder, which a file of the pool names.

    Args:
        path: relative to the folder, or absolute and below it.

    Raises:
        LocationForbidden: it leads out of the folder, by `..` or by a link.
    """
    uri = path if path.startswith(("/", f"{folder}/")) else posixpath.join(folder, path)
    place, root = _located(uri), _located(folder)
    if place.scheme == "file":
        place = Location("file", "", os.path.realpath(_path(place)))
        root = Location("file", "", os.path.realpath(_path(root)))
    if not root.holds(place):
        raise LocationForbidden(f"{path[:200]} leads out of {folder}", uri=path[:200])
    return uri


def matching(pattern: str) -> list[str]:
    """Return the sorted URIs of the files that a pattern with `*` matches, or of a local folder's files.

    Of a folder these are the *.tar files, or if there are none those of the first of FOLDER_FILES that there is.

    A local path without `*` that is no folder, and any other URI without `*`, is returned as it is.

    Raises:
        LocationForbidden: the pattern is not allowed.
        ShardUnreadable: nothing matches, too much does, or the URI is one of http, which lists no files.
        OSError, ValueError, ImportError: the files cannot be listed.
    """
    place = _located(pattern)
    if "*" not in pattern:
        if place.scheme != "file" or not Path(_path(place)).is_dir():
            return [absolute(pattern)]
        pattern = _files_of(absolute(pattern))
        place = _located(pattern)
    if place.scheme in ("http", "https"):
        raise ShardUnreadable(f"{pattern}: http lists no files; write a brace range instead of *", uri=pattern)
    if "**" in pattern or sum("*" in piece for piece in pattern.split("/")) > MAX_STARS:
        raise ShardUnreadable(f"{pattern}: give at most {MAX_STARS} folders or names with *, and no **", uri=pattern)
    with _own_errors():
        if place.scheme == "file":
            _followed(pattern, posixpath.dirname(_path(place).split("*", 1)[0]))
            found = fsspec.filesystem("file").glob(_path(place))
        else:
            fs = fsspec.filesystem(place.scheme, use_listings_cache=False)
            found = [fs.unstrip_protocol(path) for path in fs.glob(fs._strip_protocol(pattern))]
    names = sorted(str(name) for name in found if not posixpath.basename(str(name)).startswith(HUGGING_FACE_CACHES))
    if not names:
        raise ShardUnreadable(f"{pattern} matches no file", uri=pattern)
    if len(names) > MAX_MATCHES:
        raise ShardUnreadable(f"{pattern} matches more than {MAX_MATCHES:,} files", uri=pattern)
    return names


def _files_of(folder: str) -> str:
    """Return the pattern of the files that a folder stands for.

    Raises:
        ShardUnreadable: it has none of them.
    """
    names = os.listdir(folder)
    if "dataset_dict.json" in names:
        splits = [name for name in sorted(names) if os.path.isdir(posixpath.join(folder, name))]
        raise ShardUnreadable(f"{folder} has several splits; name one of them: {', '.join(splits[:10])}", uri=folder)
    for pattern in FOLDER_FILES:
        if any(fnmatch(name, pattern) for name in names):
            return posixpath.join(glob.escape(folder), pattern)
    raise ShardUnreadable(
        f"{folder} matches no file; expected one of {', '.join(FOLDER_FILES)} in it. For files in folders below it, "
        "write a pattern such as FOLDER/*/*.parquet",
        uri=folder,
    )


@contextmanager
def _own_errors() -> Iterator[None]:
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
    """Return the checked place that a URI names. A relative path starts at the worker's folder."""
    place = located(uri)
    if place.scheme == "file" and not place.path.startswith("/"):
        return _locations.check(str(Path.cwd() / place.path))
    return _locations.check(uri)


def _path(place: Location) -> str:
    return place.path if place.path.startswith("/") else str(Path.cwd() / place.path)


def _resolved(uri: str) -> tuple[Any, str]:
    place = _located(uri)
    if place.scheme == "file":
        return fsspec.filesystem("file"), _require_regular(uri, _followed(uri, _path(place)))
    if place.scheme in ("http", "https"):
        fs = fsspec.filesystem(place.scheme, get_client=_client(_locations), use_listings_cache=False)
        return with_complete_reads(fs), uri
    # Without a cache of listings: a shard that was rewritten since would keep its old size and tag.
    fs = fsspec.filesystem(place.scheme, use_listings_cache=False)
    return with_complete_reads(fs), fs._strip_protocol(uri)


def _require_regular(uri: str, path: str) -> str:
    """Return the path. Raises LocationForbidden if it is a device, a pipe or a socket."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return path  # the file system's own error says why
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise LocationForbidden(f"{uri} is not a regular file but a device, a pipe or a socket", uri=uri)
    return path


def _followed(uri: str, path: str) -> str:
    """Return a path without links; the allowed folders are resolved too, as they may be links themselves."""
    real = os.path.realpath(path)
    folders = [prefix.path for prefix in _locations.allowed if prefix.scheme == "file"]
    roots = [Location("file", "", os.path.realpath(folder or "/")) for folder in folders]
    if _locations.allowed and not any(root.holds(Location("file", "", real)) for root in roots):
        raise LocationForbidden(f"{uri} is not allowed: it is a link that leads out of the allowed folders", uri=uri)
    return real


@functools.cache
def _client(locations: Locations) -> Any:
    """Return the factory of fsspec's http session: one per set of rules, since fsspec caches file systems by it."""

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
    """aiohttp's resolver of host names to public addresses. Hosts that are addresses are checked by Locations.check."""

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
        """Do nothing: there is nothing to close."""
