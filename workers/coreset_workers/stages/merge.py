"""The merge stage: counts of a job's shards, added up in a tree. The order does not matter."""

from collections import Counter
from collections.abc import Sequence

from pydantic import Field

from coreset.errors import NotFound
from coreset.schemas.manifest import File, ShardSummary
from coreset.schemas.part import Oddity
from coreset.schemas.plan import PlannedShard
from coreset.spec.base import FrozenModel
from coreset.storage.layout import JobFolder
from coreset.storage.storage import Storage
from coreset.storage.verified import damaged, load_json, write_json
from coreset_workers.data.oddities import merged


class Counts(FrozenModel):
    """Outcomes of some shards.

    Attributes:
        expected: samples announced by the files beside the shards.
        announced: number of shards with such a file.
        missing: URIs of the shards without a part.
        damaged: damage of a tar, by URI of the shard.
        short: number of announced samples that were missing, by URI of the shard.
        oddities: what was left aside or replaced, by OddityKind.
        parts: files of the parts, by index of the shard.
        seconds: scoring time, summed over all workers.
        devices: number of shards scored, by device.
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
            return cls(shards=1, missing=[shard.label])
        missing = (summary.expected or 0) - summary.read
        return cls(
            shards=1,
            read=summary.read,
            scored=summary.scored,
            bad=summary.bad,
            expected=summary.expected or 0,
            announced=int(summary.expected is not None),
            damaged={shard.label: summary.damage} if summary.damage else {},
            short={shard.label: missing} if missing > 0 else {},
            oddities=summary.oddities,
            parts={shard.index: summary.part},
            seconds=summary.seconds,
            devices={summary.device: 1},
        )


def write_counts(storage: Storage, job_id: str, level: int, index: int, counts: Counts) -> None:
    """Write the counts of one node of the job's merge tree."""
    write_json(storage, JobFolder(job_id).merge(level, index), counts.model_dump_json())


def read_counts(storage: Storage, job_id: str, level: int, index: int) -> Counts:
    """Return the counts of one node of the job's merge tree. Raises DamagedFile if they are damaged or gone."""
    name = JobFolder(job_id).merge(level, index)
    try:
        return load_json(storage, name, Counts.model_validate_json)
    except NotFound as error:
        raise damaged(name, "it is gone") from error


def merge_counts(counts: Sequence[Counts]) -> Counts:
    """Return the sum of the counts."""
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
