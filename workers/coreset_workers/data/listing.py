"""The shards of a pool: URIs with braces, `::`, `*`, folders and indexes expanded, with sizes and samples."""

import tarfile
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, TypeVar

from coreset.errors import ShardUnreadable, Unavailable
from coreset.schemas.plan import PlannedShard
from coreset.spec import shard_uris
from coreset.spec.pool import PoolSpec
from coreset_workers.data.announced import AnnouncedSamples, most_samples
from coreset_workers.data.folders import FolderListings
from coreset_workers.data.formats import format_of
from coreset_workers.data.opening import REFUSALS, file_info, matching, open_file
from coreset_workers.data.shard_index import SOURCE, FoundShard, is_index, read_index
from coreset_workers.data.tables.slices import plan_slices
from coreset_workers.data.tar import sample_member
from coreset_workers.data.tar_stream import DAMAGE, Header, headers

MAX_NAMED = 10
REQUEST_THREADS = 64
"""Requests that are under way at the same time; they wait for the storage and take little of the processor."""

ROWS = "rows"
"""Source of the number of samples of a file of rows."""

Heartbeat = Callable[[], object]
"""Called after each answer of a storage, so that a worker shows that it is alive."""

Q = TypeVar("Q")
A = TypeVar("A")


def expand(uris: list[str]) -> list[str]:
    """Return the shards that the URIs name, in order: `a::b`, brace ranges, `*`, local folders and indexes expanded.

    A folder stands for its *.tar files, or its other files of samples, sorted. Relative local paths become absolute.

    Raises:
        ShardUnreadable: a brace expression that cannot be read, a pattern that matches nothing, too many shards, or one
            that is listed twice.
        LocationForbidden: one is not allowed.
    """
    return [shard.uri for shard in _find(uris)]


def _find(uris: list[str]) -> list[FoundShard]:
    """Return what `expand` does, with what indexes say of the shards."""
    found: list[FoundShard] = []
    for uri in shard_uris.expand_uris(uris):
        found += read_index(uri) if is_index(uri) else map(FoundShard, _matching(uri))
    twice = sorted(uri for uri, times in Counter(shard.uri for shard in found).items() if times > 1)
    if twice:
        raise ShardUnreadable(f"shards are listed twice: {_some(twice)}", shards=twice[:MAX_NAMED])
    return found


def _matching(uri: str) -> list[str]:
    try:
        return matching(uri)
    except (*REFUSALS, ValueError, ImportError) as error:
        raise ShardUnreadable(f"{uri} cannot be listed: {type(error).__name__}", uri=uri) from error
    except OSError as error:
        raise Unavailable(f"{uri} cannot be listed now: {type(error).__name__}", uri=uri) from error


def _some(uris: list[str]) -> str:
    more = len(uris) - MAX_NAMED
    return ", ".join(uris[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def list_shards(pool: PoolSpec, heartbeat: Heartbeat = lambda: None) -> list[PlannedShard]:
    """Return the pool's shards as they are now.

    Args:
        heartbeat: called after each answer of the storage.

    Raises:
        ShardUnreadable: names the shards, ten at most, that are missing or cannot be listed.
    """
    found = _find(pool.shards)
    asked = [shard.uri for shard in found if shard.size is None]
    folders = FolderListings(asked, heartbeat)
    entries = dict(zip(asked, _each(lambda uri: folders.entry(uri) or _info(uri), asked, heartbeat), strict=True))
    missing = [f"{uri} ({entry})" for uri, entry in entries.items() if isinstance(entry, str)]
    if missing:
        raise ShardUnreadable(
            f"{len(missing)} of {len(found)} shards cannot be opened: {_some(missing)}. "
            "Give URIs that the workers can read; a brace range must not reach past the last shard. For all shards of "
            "a remote folder, write FOLDER/*.tar.",
            shards=missing[:MAX_NAMED],
        )
    infos = {uri: entry for uri, entry in entries.items() if not isinstance(entry, str)}
    with closing(AnnouncedSamples(folders.has)) as announced:
        unknown = [shard for shard in found if not _is_counted(shard)]
        ask = lambda shard: _shards_of(shard, infos.get(shard.uri, {}), pool, announced)  # noqa: E731
        answers = iter(_each(ask, unknown, heartbeat))
    shards = [fields for shard in found for fields in (_indexed(shard) if _is_counted(shard) else next(answers))]
    return [PlannedShard.model_validate({**fields, "index": index}) for index, fields in enumerate(shards)]


def _is_counted(shard: FoundShard) -> bool:
    """Return whether an index says bytes and samples of a tar, the samples in a number that it can have."""
    if shard.size is None or shard.samples is None or format_of(shard.uri) != "tar":
        return False
    return shard.samples <= most_samples(shard.uri, shard.size)


def _indexed(shard: FoundShard) -> list[dict[str, Any]]:
    counted = {"expected": shard.samples, "expected_source": SOURCE}
    return [{"uri": shard.uri, "size": shard.size, "etag": None, **counted}]


def _shards_of(
    shard: FoundShard, info: dict[str, Any], pool: PoolSpec, announced: AnnouncedSamples
) -> list[dict[str, Any]]:
    """Return the fields of a file's shards: one for a tar or a small file of rows."""
    uri, etag = shard.uri, _etag(info)
    size = int(info.get("size") or 0) if shard.size is None else shard.size
    if format_of(uri) == "tar":
        count, source = announced.of(uri, size)
        return [{"uri": uri, "size": size, "etag": etag, "expected": count, "expected_source": source}]
    return [
        {
            "uri": uri,
            "size": part.size,
            "etag": etag,
            "expected": part.samples,
            "expected_source": None if part.samples is None else ROWS,
            "rows": part.rows,
        }
        for part in plan_slices(uri, size, pool)
    ]


def _each(ask: Callable[[Q], A], questions: Sequence[Q], heartbeat: Heartbeat) -> list[A]:
    """Return the answers in order; REQUEST_THREADS are asked at a time."""
    answers: list[A] = []
    with ThreadPoolExecutor(REQUEST_THREADS) as threads:
        for answer in threads.map(ask, questions):
            heartbeat()
            answers.append(answer)
    return answers


def _info(uri: str) -> dict[str, Any] | str:
    """Return the file system's entry of a file, or in a few words why there is none.

    Raises:
        Unavailable: the storage fails in a way that may pass.
    """
    try:
        info = file_info(uri)
    except FileNotFoundError:
        return "not found"
    except (*REFUSALS, ValueError, ImportError) as error:
        return type(error).__name__
    except OSError as error:
        raise Unavailable(f"{uri} cannot be reached now: {type(error).__name__}", uri=uri) from error
    return info if info.get("type") != "directory" else "a directory"


def changed(shard: PlannedShard) -> str | None:
    """Return a sentence if a shard's version tag or modification time differs from the plan's, else None.

    A storage that gives neither cannot show a change.
    """
    info = _info(shard.uri) if shard.etag else "not asked"
    now = None if isinstance(info, str) else _etag(info)
    return None if now in (None, shard.etag) else "has changed since the job was planned"


def _etag(info: dict[str, Any]) -> str | None:
    for name in ("ETag", "etag", "mtime", "updated", "LastModified"):
        if info.get(name):
            return str(info[name])
    return None


def count_samples(shard: PlannedShard) -> int | None:
    """Return the number of keys in a local, uncompressed tar, from its headers alone; None for any other shard."""
    if shard.rows is not None or "://" in shard.uri or shard.uri.endswith(("gz", "bz2", "xz", "zst")):
        return None
    try:
        with (
            open_file(shard.uri) as file,
            tarfile.open(fileobj=file, mode="r:", tarinfo=Header, ignore_zeros=True) as tar,
        ):
            members = (sample_member(header) for header in headers(tar))
            return len({parts[0] for parts in members if parts is not None})
    except DAMAGE:
        return None
