"""Indexes of shards, as webdataset's `widsindex` writes them: URL, bytes and samples of each shard in one JSON file."""

import json
import posixpath
from typing import Any, NamedTuple, cast

from coreset.errors import ShardUnreadable, Unavailable
from coreset_workers.data.opening import MAX_MATCHES, REFUSALS, absolute, open_file

SUFFIX = ".json"
MAX_BYTES = 2**28
"""Largest size of an index; one of a million shards has 150 MB."""

SOURCE = "shard index"


class FoundShard(NamedTuple):
    """A shard, with its bytes and samples if an index says them."""

    uri: str
    size: int | None = None
    samples: int | None = None


def is_index(uri: str) -> bool:
    return uri.split("?", 1)[0].endswith(SUFFIX)


def read_index(uri: str) -> list[FoundShard]:
    """Return the shards of an index, in its order; relative URLs start at the folder of the index.

    Raises:
        ShardUnreadable: it cannot be read, or is no index.
        LocationForbidden: a shard is not allowed.
        Unavailable: the storage fails in a way that may pass.
    """
    try:
        with open_file(absolute(uri)) as file:
            data = file.read(MAX_BYTES + 1)
    except (*REFUSALS, ValueError, ImportError) as error:
        raise ShardUnreadable(f"{uri} cannot be read: {type(error).__name__}", uri=uri) from error
    except OSError as error:
        raise Unavailable(f"{uri} cannot be read now: {type(error).__name__}", uri=uri) from error
    entries = _entries(data)
    if not entries or len(entries) > MAX_MATCHES:
        raise ShardUnreadable(
            f'{uri} is no index of shards; expected {{"shardlist": [{{"url": "00.tar", "filesize": 1024, "nsamples": '
            f"10}}]}} with 1 to {MAX_MATCHES:,} shards, in at most {MAX_BYTES >> 20} MiB, as `widsindex create` writes "
            "it",
            uri=uri,
        )
    folder = posixpath.dirname(absolute(uri))
    return [_found(uri, folder, entry) for entry in entries]


def _entries(data: bytes) -> list[Any]:
    if len(data) > MAX_BYTES:
        return []
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return []
    listed = cast(dict[str, Any], found).get("shardlist") if isinstance(found, dict) else None
    return cast(list[Any], listed) if isinstance(listed, list) else []


def _found(index: str, folder: str, entry: Any) -> FoundShard:
    url = entry.get("url") if isinstance(entry, dict) else None
    if not isinstance(url, str) or not url or "*" in url:
        raise ShardUnreadable(f"{index} has an entry without the `url` of one shard: {entry!r:.100}", uri=index)
    relative = not url.startswith("/") and ":" not in url.split("/", 1)[0]
    return FoundShard(
        absolute(f"{folder}/{url}" if relative else url), _count(entry.get("filesize")), _count(entry.get("nsamples"))
    )


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
