"""Shard URIs to planned shards: braces and `::` expanded, each shard found, and what it says of its size."""

import io
import json
import posixpath
import tarfile
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from coreset.errors import ShardUnreadable, Unavailable
from coreset.schemas.plan import PlannedShard
from coreset.spec import shard_uris
from coreset.spec.job import PoolSpec
from coreset_workers.data.opening import REFUSALS, absolute, file_info, open_file
from coreset_workers.data.tar import DAMAGE, Header, belongs_to_sample, split

NAMED_AT_MOST = 10
MOST_SAMPLES = 100_000_000
"""Of one shard. Files that announce more announce nothing."""

T = TypeVar("T")


def expand(uris: list[str]) -> list[str]:
    """Return the URIs with `a::b` and brace ranges expanded, in order; relative local paths become absolute.

    Raises:
        ShardUnreadable: a brace expression that cannot be read, too many shards, or one that is listed twice.
        LocationForbidden: one is not allowed.
    """
    expanded = [absolute(uri) for uri in shard_uris.expand_uris(uris)]
    twice = sorted(uri for uri, times in Counter(expanded).items() if times > 1)
    if twice:
        raise ShardUnreadable(f"shards are listed twice: {_some(twice)}", shards=twice[:NAMED_AT_MOST])
    return expanded


def _some(uris: list[str]) -> str:
    more = len(uris) - NAMED_AT_MOST
    return ", ".join(uris[:NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")


def list_shards(pool: PoolSpec, heartbeat: Callable[[], object] = lambda: None) -> list[PlannedShard]:
    """Return the pool's shards as they are now.

    Args:
        heartbeat: called after each answer of the storage.

    Raises:
        ShardUnreadable: names every shard (ten at most) that is not there or cannot be asked for.
    """
    uris = expand(pool.shards)
    found = _each(_info, uris, heartbeat)
    missing = [f"{uri} ({info})" for uri, info in zip(uris, found, strict=True) if isinstance(info, str)]
    infos = [info for info in found if not isinstance(info, str)]
    if missing:
        raise ShardUnreadable(
            f"{len(missing)} of {len(uris)} shards cannot be opened: {_some(missing)}. "
            "Give URIs that the workers can read; a brace range must not reach past the last shard.",
            shards=missing[:NAMED_AT_MOST],
        )
    expected = _each(_Expected().of, uris, heartbeat)
    shards = []
    for index, (uri, info, (count, source)) in enumerate(zip(uris, infos, expected, strict=True)):
        shards.append(
            PlannedShard(
                index=index,
                uri=uri,
                size=int(info["size"] or 0),
                etag=_etag(info),
                expected=count,
                expected_source=source,
            )
        )
    return shards


def _each(look: Callable[[str], T], uris: Sequence[str], heartbeat: Callable[[], object]) -> list[T]:
    """Return the answers in the order of the URIs, 16 asked at a time."""
    found: list[T] = []
    with ThreadPoolExecutor(16) as threads:
        for answer in threads.map(look, uris):
            heartbeat()
            found.append(answer)
    return found


def _info(uri: str) -> dict[str, Any] | str:
    """Return what the file system says of a file, or in a few words why it says nothing.

    Raises:
        Unavailable: the storage does not answer as it should; it may at the next attempt.
    """
    try:
        info = file_info(uri)
    except FileNotFoundError:
        return "not found"
    except (*REFUSALS, ValueError, ImportError) as error:
        return type(error).__name__
    except OSError as error:
        raise Unavailable(f"{uri} cannot be looked at now: {type(error).__name__}", uri=uri) from error
    return info if info.get("type") != "directory" else "a directory"


def changed(shard: PlannedShard) -> str | None:
    """Say in words that a shard is not the one that was planned, by its storage's version tag or time; None if it is.

    A storage that tells neither is believed.
    """
    info = _info(shard.uri) if shard.etag else "not asked"
    now = None if isinstance(info, str) else _etag(info)
    return None if now in (None, shard.etag) else "has changed since the job was planned"


def _etag(info: dict[str, Any]) -> str | None:
    for name in ("ETag", "etag", "mtime", "updated", "LastModified"):
        if info.get(name):
            return str(info[name])
    return None


class _Expected:
    """Numbers of samples as the files beside the shards announce them: _stats.json, sizes.json, or the parquet."""

    def __init__(self) -> None:
        self._sizes: dict[str, dict[str, int]] = {}

    def of(self, uri: str) -> tuple[int | None, str | None]:
        folder, name = posixpath.split(uri)
        stem = name.split(".", 1)[0]
        stats = _json(f"{folder}/{stem}_stats.json")
        if _is_count(stats.get("successes")):
            return stats["successes"], "stats.json"
        if folder not in self._sizes:
            self._sizes[folder] = _json(f"{folder}/sizes.json")
        if _is_count(self._sizes[folder].get(name)):
            return self._sizes[folder][name], "sizes.json"
        count = _successes(f"{folder}/{stem}.parquet")
        return (count, "parquet") if count is not None else (None, None)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and 0 <= value <= MOST_SAMPLES


def _json(uri: str) -> dict[str, Any]:
    try:
        with open_file(uri) as file:
            value = json.load(io.BytesIO(file.read(1 << 24)))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _successes(uri: str) -> int | None:
    """Return the number of rows of img2dataset's parquet whose status is success."""
    try:
        with open_file(uri) as file:
            if pq.read_metadata(file).num_rows > MOST_SAMPLES:
                return None
            table = pq.read_table(file, columns=["status"])
    except (OSError, ValueError, KeyError, pa.ArrowException):
        return None
    return sum(value == "success" for value in table["status"].to_pylist())


def count_samples(shard: PlannedShard) -> int | None:
    """Return the number of keys in a local, uncompressed tar, from its headers alone; None for any other shard."""
    if "://" in shard.uri or shard.uri.endswith(("gz", "bz2", "xz", "zst")):
        return None
    try:
        with open_file(shard.uri) as file, tarfile.open(fileobj=file, mode="r:", tarinfo=Header) as tar:
            return len({split(member.name)[0] for member in tar if belongs_to_sample(member)})
    except DAMAGE:
        return None
