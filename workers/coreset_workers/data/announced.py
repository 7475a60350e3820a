"""Numbers of samples as the files beside the shards announce them: _stats.json, sizes.json, or img2dataset's parquet.

These files come with the pool, so they may be made to harm. They are read within bounds, and one that exceeds a bound
announces nothing.
"""

import json
import posixpath
import tarfile
from collections.abc import Callable
from typing import Any

from coreset.errors import LocationForbidden
from coreset_workers.data.opening import open_file
from coreset_workers.data.parquet_counts import ParquetCounter
from coreset_workers.data.tar_stream import max_unpacked

MAX_SAMPLES = 100_000_000
"""Samples of one shard; a larger number is taken for damage."""

MAX_JSON_BYTES = 2**24
MAX_PARQUET_BYTES = 2**26


class AnnouncedSamples:
    """The announced number of samples per shard. Keeps each folder's sizes.json; close it at the end.

    Args:
        has: whether a file may exist, by its URI; one that does not is not asked for.
    """

    def __init__(self, has: Callable[[str], bool] = lambda uri: True) -> None:
        self._has = has
        self._sizes: dict[str, dict[str, Any]] = {}
        self._parquets = ParquetCounter()

    def close(self) -> None:
        self._parquets.close()

    def of(self, uri: str, size: int) -> tuple[int | None, str | None]:
        """Return the number of samples of a shard and the kind of file that announces it, or (None, None).

        Args:
            size: bytes of the shard; a number of samples that cannot be in them is not believed. 0 is unknown.
        """
        folder, name = posixpath.split(uri)
        stem = name.split(".", 1)[0]
        most = most_samples(name, size)
        stats = self._json(f"{folder}/{stem}_stats.json")
        if _is_count(stats.get("successes"), most):
            return stats["successes"], "stats.json"
        if folder not in self._sizes:
            self._sizes[folder] = self._json(f"{folder}/sizes.json")
        if _is_count(self._sizes[folder].get(name), most):
            return self._sizes[folder][name], "sizes.json"
        data = self._content(f"{folder}/{stem}.parquet", MAX_PARQUET_BYTES)
        count = self._parquets.count(data) if data else None
        return (count, "parquet") if _is_count(count, most) else (None, None)

    def _json(self, uri: str) -> dict[str, Any]:
        try:
            value = json.loads(self._content(uri, MAX_JSON_BYTES) or b"{}")
        except (ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}

    def _content(self, uri: str, most: int) -> bytes | None:
        """Return a file's bytes; None if it cannot be opened or has more than `most`."""
        if not self._has(uri):
            return None
        try:
            with open_file(uri) as file:
                data = file.read(most + 1)
        except (OSError, ValueError, LocationForbidden):
            return None
        return data if len(data) <= most else None


def most_samples(name: str, size: int) -> int:
    """Return the most samples that a shard can hold: each takes a header of 512 bytes at least."""
    unpacked = size if name.endswith(".tar") else max_unpacked(size)
    return min(MAX_SAMPLES, unpacked // tarfile.BLOCKSIZE) if size and unpacked else MAX_SAMPLES


def _is_count(value: object, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most
