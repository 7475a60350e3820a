"""Listings of a pool's folders on an object store: one request for a thousand files in place of some per shard."""

import posixpath
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from coreset_workers.data.opening import entries_in

MIN_SHARDS = 64
"""Number of a folder's shards in the pool from which on the folder is listed: it may have many other files."""


class FolderListings:
    """The folders of a pool's shards, listed if they have many of them and the storage lists files cheaply.

    Args:
        heartbeat: called after each listing.
    """

    def __init__(self, uris: Iterable[str], heartbeat: Callable[[], object]) -> None:
        self._listed: dict[str, dict[str, dict[str, Any]]] = {}
        for folder, shards in Counter(map(posixpath.dirname, uris)).items():
            entries = entries_in(folder) if shards >= MIN_SHARDS else None
            if entries is not None:
                self._listed[folder] = entries
                heartbeat()

    def entry(self, uri: str) -> dict[str, Any] | None:
        """Return the file system's entry of a file, or None if it has to be asked for by itself."""
        folder, name = posixpath.split(uri)
        found = self._listed.get(folder, {}).get(name)
        return found if found is not None and found.get("type") == "file" else None

    def has(self, uri: str) -> bool:
        """Return whether a file may exist."""
        folder, name = posixpath.split(uri)
        return folder not in self._listed or name in self._listed[folder]
