"""A seeded draw of samples from a pool: the reference batch B, the validation samples V, and the probes."""

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

from coreset.errors import PoolUnusable, ShardUnreadable
from coreset.schemas.part import SampleStatus
from coreset.schemas.plan import PlannedShard
from coreset_workers.data.decode import Sample
from coreset_workers.data.loader import Loader
from coreset_workers.data.shards import open_shard
from coreset_workers.data.tar import RawSample

MOST_SHARDS = 16
FEWEST_SAMPLES = 8
SPARE = 1.5
"""Candidates kept for each sample wanted, since some will turn out bad."""


def draw(shards: Sequence[PlannedShard], size: int, seed: int, loader: Loader) -> tuple[list[Sample], str | None]:
    """Return `size` good samples with distinct uids, and a warning if the pool holds fewer.

    Up to MOST_SHARDS shards, in an order drawn by the seed, are read; of their samples those with the smallest
    sha256(seed/shard/key) are taken. Of a shard's URI the file name alone counts, so that a pool that was moved gives
    the same draw.

    Raises:
        PoolUnusable: fewer than FEWEST_SAMPLES good samples; says what is wrong with the others.
    """
    chosen = sorted(shards, key=lambda shard: _hash(seed, shard.draw_name))[:MOST_SHARDS]
    counts: Counter[str] = Counter()
    good: dict[str, Sample] = {}
    for sample in _candidates(chosen, int(size * SPARE) + 16, seed, loader):
        counts[sample.status.value] += 1
        # Further captions are left out: pairs of one image are no negatives of each other.
        if sample.status is SampleStatus.OK and sample.caption_index == 0 and len(good) < size:
            good.setdefault(sample.uid, sample)
    if len(good) < FEWEST_SAMPLES:
        raise PoolUnusable(
            f"only {len(good)} good samples were found in {len(chosen)} of {len(shards)} shards "
            f"({_words(counts)}); at least {FEWEST_SAMPLES} are needed. Shards need KEY.jpg (or png, jpeg, webp) "
            "and KEY.txt, or a `caption_field` in KEY.json.",
            counts=dict(counts),
        )
    short = f"wanted {size} samples for the reference, found {len(good)} good ones" if len(good) < size else None
    return list(good.values()), short


def _candidates(shards: Iterable[PlannedShard], keep: int, seed: int, loader: Loader) -> list[Sample]:
    """Return the decoded samples with the `keep` smallest hashes, smallest first."""
    heap: list[tuple[int, int, RawSample]] = []
    for number, (shard, raw) in enumerate(_raw(shards)):
        entry = (-_hash(seed, f"{shard}/{raw.key}"), number, raw)
        if len(heap) < keep:
            heapq.heappush(heap, entry)
        else:
            heapq.heappushpop(heap, entry)
    return list(loader.decode(raw for _, _, raw in sorted(heap, key=lambda entry: -entry[0])))


def _raw(shards: Iterable[PlannedShard]) -> Iterator[tuple[str, RawSample]]:
    """Yield the samples of the shards that can be read, each with its shard's name in draws.

    The other shards fail in their own tasks, with their names.
    """
    for shard in shards:
        with suppress(ShardUnreadable):
            yield from ((shard.draw_name, raw) for raw in open_shard(shard))


def _hash(seed: int, text: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{text}".encode()).digest()[:8], "big")


def _words(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {status}" for status, count in counts.most_common()) or "they are empty"
