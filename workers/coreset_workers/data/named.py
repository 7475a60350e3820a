"""The samples of a pool with given uids."""

from collections.abc import Callable, Collection, Iterator, Sequence

from coreset.errors import PoolUnusable
from coreset.schemas.part import SampleStatus
from coreset.schemas.plan import PlannedShard
from coreset_workers.data.decode import Sample, uid_of
from coreset_workers.data.loader import Loader
from coreset_workers.data.shards import open_shard
from coreset_workers.data.tar import RawSample

MAX_NAMED = 5


def read_named(
    shards: Sequence[PlannedShard], wanted: Collection[str], loader: Loader, progress: Callable[[float], None]
) -> tuple[list[Sample], list[Sample]]:
    """Return the good samples with the wanted uids, and the bad ones, which no training has seen.

    Every shard is read, since a uid may come again; other samples are not decoded.

    Raises:
        PoolUnusable: names uids that are not in the pool.
        ShardUnreadable: a shard cannot be read: a wanted sample may be in it.
    """
    names = set(wanted)

    def raw() -> Iterator[RawSample]:
        for index, shard in enumerate(shards):
            progress(index / len(shards))
            yield from (sample for sample in open_shard(shard) if uid_of(sample, loader.caption_field) in names)

    found = list(loader.decode(raw()))
    missing = sorted(names - {sample.uid for sample in found})
    if missing:
        more = len(missing) - MAX_NAMED
        raise PoolUnusable(
            f"{len(missing):,} of {len(names):,} uids are not in the pool: {', '.join(missing[:MAX_NAMED])}"
            + (f" and {more:,} more" if more > 0 else ""),
            uids=missing[:MAX_NAMED],
        )
    good = [sample for sample in found if sample.status is SampleStatus.OK]
    return good, [sample for sample in found if sample.status is not SampleStatus.OK]
