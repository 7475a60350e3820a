"""Counts of a job's shards, put together in a tree: the order of merging does not matter."""

from collections import Counter
from collections.abc import Sequence

from pydantic import Field

from coreset.schemas.manifest import File, ShardSummary
from coreset.schemas.part import Oddity
from coreset.schemas.plan import PlannedShard
from coreset.spec.job import Strict
from coreset_workers.data.oddities import merged


class Counts(Strict):
    """What became of some shards.

    Attributes:
        expected: samples announced for the shards, as far as they are announced.
        announced: shards that announce a number.
        missing: URIs of the shards without a part.
        damaged: what is wrong with a shard's tar, by URI.
        short: by URI, how many announced samples did not come.
        oddities: what was left aside or replaced, by OddityKind.
        parts: their files, in the order of the shards.
        seconds: of scoring, over all workers.
    """

    shards: int = 0
    read: int = 0
    scored: int = 0
    bad: dict[str, int] = Field(default_factory=dict)
    expected: int = 0
    announced: int = 0
    missing: list[str] = Field(default_factory=list)
    damaged: dict[str, str] = Field(default_factory=dict)
    short: dict[str, int] = Field(default_factory=dict)
    oddities: dict[str, Oddity] = Field(default_factory=dict[str, Oddity])
    parts: dict[int, File] = Field(default_factory=dict)
    seconds: float = 0.0
    devices: dict[str, int] = Field(default_factory=dict)

    @classmethod
    def of(cls, shard: PlannedShard, summary: ShardSummary | None) -> "Counts":
        """Return the counts of one shard; `summary` is None if it has no part."""
        if summary is None:
            return cls(shards=1, missing=[shard.uri])
        missing = (summary.expected or 0) - summary.read
        return cls(
            shards=1,
            read=summary.read,
            scored=summary.scored,
            bad=summary.bad,
            expected=summary.expected or 0,
            announced=int(summary.expected is not None),
            damaged={shard.uri: summary.damage} if summary.damage else {},
            short={shard.uri: missing} if missing > 0 else {},
            oddities=summary.oddities,
            parts={shard.index: summary.part},
            seconds=summary.seconds,
            devices={summary.device: 1},
        )


def merge_counts(counts: Sequence[Counts]) -> Counts:
    """Return the sum."""
    return Counts(
        shards=sum(c.shards for c in counts),
        read=sum(c.read for c in counts),
        scored=sum(c.scored for c in counts),
        bad=_summed([c.bad for c in counts]),
        expected=sum(c.expected for c in counts),
        announced=sum(c.announced for c in counts),
        missing=sorted(uri for c in counts for uri in c.missing),
        damaged={uri: c.damaged[uri] for c in counts for uri in c.damaged},
        short={uri: c.short[uri] for c in counts for uri in c.short},
        oddities=merged(c.oddities for c in counts),
        parts=dict(sorted((index, c.parts[index]) for c in counts for index in c.parts)),
        seconds=sum(c.seconds for c in counts),
        devices=_summed([c.devices for c in counts]),
    )


def _summed(tables: Sequence[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for table in tables:
        total.update(table)
    return dict(sorted(total.items()))
