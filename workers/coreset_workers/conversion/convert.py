"""Write a pool of any format as WebDataset shards, one for each shard of the pool, without decoding an image.

00000000.tar ...           members KEY.jpg (or png, webp), KEY.txt, and KEY.json with the other columns
00000000_stats.json ...    {"successes": samples}, written after the tar: such a shard is not written again
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from coreset.errors import DamagedFile, NotFound
from coreset.schemas.part import Oddity
from coreset.schemas.plan import PlannedShard
from coreset.spec.base import FrozenModel
from coreset.spec.pool import PoolSpec
from coreset.storage.storage import Storage
from coreset_workers.data.listing import list_shards
from coreset_workers.data.oddities import merged
from coreset_workers.data.shards import Reader, open_shard
from coreset_workers.data.tar import RawSample, own_key
from coreset_workers.outputs.shards import SHARD_FORMAT, SampleTar

_UNSAFE = re.compile(r"[^\w/#-]")
"""Characters of keys that are replaced: webdataset splits a member's name at the first dot."""

_RESERVED = re.compile(r"(^|/)(_|/|$)")


class Converted(FrozenModel):
    """What was written.

    Attributes:
        samples, without_image: samples, and those of them that have no image.
        written_before: shards that an earlier run has written.
        damaged: what is wrong with a shard, by its name.
    """

    out: str
    shards: int
    samples: int
    without_image: int
    written_before: int
    damaged: dict[str, str]
    oddities: dict[str, Oddity]


def convert(pool: PoolSpec, storage: Storage, progress: Callable[[float], object] = lambda share: None) -> Converted:
    """Write the pool's samples as shards below the storage's root. Shards that are there already stay.

    Raises:
        InvalidInput: a file cannot be listed or opened.
        Unavailable: a storage does not answer; the next run continues.
    """
    shards = list_shards(pool)
    written: list[_Shard] = []
    before = 0
    for shard in shards:
        progress(shard.index / len(shards))
        if (known := _known(storage, shard)) is not None:
            written.append(known)
            before += 1
            continue
        written.append(_write(storage, shard))
    sizes = {_name(shard): each.samples for shard, each in zip(shards, written, strict=True)}
    storage.write("sizes.json", json.dumps(sizes).encode())
    return Converted(
        out=storage.uri(""),
        shards=len(shards),
        samples=sum(each.samples for each in written),
        without_image=sum(each.without_image for each in written),
        written_before=before,
        damaged={s.label: w.damage for s, w in zip(shards, written, strict=True) if w.damage},
        oddities=merged(each.oddities for each in written),
    )


class _Shard(FrozenModel):
    """The counts of a shard, as its _stats.json has them beside img2dataset's `successes`."""

    source: str
    etag: str | None
    samples: int
    without_image: int
    damage: str | None
    oddities: dict[str, Oddity]


def _write(storage: Storage, shard: PlannedShard) -> _Shard:
    reader = open_shard(shard, everything=True)
    counts: Counter[str] = Counter()
    tar = SampleTar(_named(reader, counts))
    storage.write_with(_name(shard), tar.fill)
    found = _Shard(
        source=shard.label,
        etag=shard.etag,
        samples=tar.samples,
        without_image=counts["without_image"],
        damage=reader.damage,
        oddities=reader.oddities.as_dict(),
    )
    stats = {"successes": tar.samples, **found.model_dump(mode="json")}
    storage.write(_stats(shard), json.dumps(stats).encode())
    return found


def _known(storage: Storage, shard: PlannedShard) -> _Shard | None:
    """Return the counts of a shard that an earlier run wrote of the same file, or None."""
    with suppress(NotFound, DamagedFile, ValueError, TypeError, AttributeError):
        stats: dict[str, Any] = json.loads(storage.read(_stats(shard)))
        stats.pop("successes", None)
        known = _Shard.model_validate(stats)
        if (known.source, known.etag) == (shard.label, shard.etag) and storage.exists(_name(shard)):
            return known
    return None


def _named(reader: Reader, counts: Counter[str]) -> Iterator[tuple[str, RawSample]]:
    """Yield the samples with keys that webdataset splits from their extensions as it should."""
    taken: Counter[str] = Counter()
    for raw in reader:
        counts["without_image"] += raw.image() is None
        key = _UNSAFE.sub("_", raw.key).strip("/")
        yield own_key(f"row-{raw.row}" if _RESERVED.search(key) else key, taken), raw


def _name(shard: PlannedShard) -> str:
    return SHARD_FORMAT.format(shard.index)


def _stats(shard: PlannedShard) -> str:
    return f"{_name(shard).removesuffix('.tar')}_stats.json"
