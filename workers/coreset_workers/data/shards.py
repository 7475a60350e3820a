"""One reader for every format of a pool's shards."""

from collections.abc import Iterator
from typing import Protocol

from coreset.schemas.plan import PlannedShard
from coreset_workers.data.oddities import Oddities
from coreset_workers.data.tables.rows import RowReader
from coreset_workers.data.tar import RawSample, ShardReader


class Reader(Protocol):
    """Iterates over a shard's samples once; afterwards `damage` says what is wrong with the shard, if anything is."""

    damage: str | None
    oddities: Oddities

    def __iter__(self) -> Iterator[RawSample]: ...


def open_shard(shard: PlannedShard, everything: bool = False) -> Reader:
    """Return the reader of a shard; it opens the shard when it is iterated.

    Args:
        everything: read every member of a tar, not only those that scoring needs; for copying.
    """
    return ShardReader(shard.uri, shard.size or None, everything) if shard.rows is None else RowReader(shard)
