"""File systems whose files ask again for what is missing of an answer.

A storage, or a proxy before it, may answer a range of bytes with some of it and say that this is all. fsspec's caches
take it for the whole: what is read next comes from the wrong place, or the file seems to end. So the check is made
below them, where bytes are fetched, and holds for all that reads through fsspec: Arrow, DuckDB, torch, ourselves.
"""

import functools
from collections.abc import Callable
from typing import Any, cast

from fsspec import AbstractFileSystem  # pyright: ignore[reportMissingTypeStubs]

from coreset.errors import InvalidInput

MAX_EMPTY_ANSWERS = 5
"""Answers in a row without a byte, after which a range is given up."""

Fetch = Callable[[int, int], bytes]
"""(start, end) -> the bytes in between."""


def with_complete_reads(fs: AbstractFileSystem) -> AbstractFileSystem:
    """Return a file system like this one, whose files raise OSError where less comes than they hold."""
    return _reading_whole(type(fs))(*fs.storage_args, **fs.storage_options)


@functools.cache
def _reading_whole(kind: type[AbstractFileSystem]) -> type[AbstractFileSystem]:
    class ReadingWhole(kind):  # fsspec remembers its instances by class and arguments
        def _open(self, *given: Any, **options: Any) -> Any:
            file = cast(Any, super())._open(*given, **options)
            cache = getattr(file, "cache", None)  # a local file, or a stream without ranges, has none
            if cache is not None:
                cache.fetcher = _insistent(cache.fetcher, cache.size)
            return file

    return ReadingWhole


def _insistent(fetch: Fetch, size: int) -> Fetch:
    def fetch_all(start: int, end: int) -> bytes:
        end = min(end, size)  # some caches ask beyond it
        data, empty = fetch(start, end), 0
        while len(data) < end - start:
            more = fetch(start + len(data), end)
            empty = 0 if more else empty + 1
            if empty == MAX_EMPTY_ANSWERS:
                raise OSError(f"the storage sends {len(data)} of the {end - start} bytes from {start} on, and no more")
            data += more
        return data

    return fetch_all


def missing_library(error: ImportError) -> InvalidInput:
    """Return the error for a URI whose scheme fsspec knows but cannot open here."""
    return InvalidInput(f"the library for this storage is not installed ({error}); for S3: pip install 'coreset[s3]'")
