"""A coreset as new WebDataset shards: the members' bytes untouched, laid out as DataComp's resharder lays them out.

The key of each sample is its uid. Scored again, the shards give the same uids: those of the json members, and for the
others those of their content, which is untouched. Of an image with several captions the chosen one is written, as
`txt`, and its uid into the json member.

shards/00000000.tar ...             SAMPLES_PER_SHARD samples each, in the order of the pool; members `UID.EXT`, or
                                    `UID-0.EXT`, `UID-1.EXT` ... where a sample was drawn several times
shards/00000000_stats.json ...      {"successes": samples}
shards/sizes.json, meta.json        samples by shard; the number and the naming of the shards, for DataComp's trainer
shards/sample_ids.npy               the uids, as subset.npy
"""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import chain, islice
from typing import BinaryIO, NamedTuple

import pyarrow.parquet as pq
from webdataset.writer import TarWriter

from coreset.errors import ShardUnreadable
from coreset.schemas.manifest import File, Selection
from coreset.schemas.plan import Plan
from coreset.storage.layout import JobFolder, PlanFolder
from coreset.storage.storage import Storage
from coreset_workers.data.shards import open_shard
from coreset_workers.data.tar import CAPTION_MEMBER, RawSample

SAMPLES_PER_SHARD = 10_000
SHARD_FORMAT = "{:08d}.tar"

Place = tuple[str, str, str]
"""(shard, key, uid) of a sample."""

Chosen = tuple[str, RawSample]
"""A chosen sample's name in the new shards, and its members."""


def write_shards(
    storage: Storage, plan: Plan, selection: Selection, progress: Callable[[float], object]
) -> dict[str, File]:
    """Write the selection's samples as shards and return the files by name.

    Raises:
        ShardUnreadable: a shard is gone, or no longer holds a sample that was scored.
    """
    folder = JobFolder(selection.job_id).selection(selection.id)
    files: dict[str, File] = {}
    sizes: dict[str, int] = {}

    def save(name: str, content: object) -> None:
        files[f"shards/{name}"] = storage.write(folder.file(f"shards/{name}"), json.dumps(content).encode())

    samples = _chosen(storage, plan, folder.subset, progress)
    while (first := next(samples, None)) is not None:
        name = SHARD_FORMAT.format(len(sizes))
        written = SampleTar(chain([first], islice(samples, SAMPLES_PER_SHARD - 1)))
        files[f"shards/{name}"] = storage.write_with(folder.file(f"shards/{name}"), written.fill)
        sizes[name] = written.samples
        save(f"{name.removesuffix('.tar')}_stats.json", {"successes": written.samples})
    if sum(sizes.values()) != selection.k:
        raise ShardUnreadable(
            f"{sum(sizes.values()):,} of the coreset's {selection.k:,} samples were found again: a shard has changed "
            "since it was scored. Post the job again, so that it is planned again."
        )
    save("sizes.json", sizes)
    save(
        "meta.json",
        {"output_shard_count": len(sizes), "output_shard_format": SHARD_FORMAT, "output_count": selection.k},
    )
    subset = storage.read(folder.uids)
    files["shards/sample_ids.npy"] = storage.write(folder.file("shards/sample_ids.npy"), subset, rows=selection.k)
    return files


def _chosen(storage: Storage, plan: Plan, subset: str, progress: Callable[[float], object]) -> Iterator[Chosen]:
    """Yield the chosen samples in the order of the pool, each uid as often as it was chosen."""
    with storage.open(subset) as file:
        columns = ["shard", "key", "uid", "copies", *(["caption"] if plan.several_captions else [])]
        table = pq.read_table(file, columns=columns, page_checksum_verification=True)
    rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
    wanted: dict[Place, _Wanted] = {(row[0], row[1], row[2]): _Wanted(row[2], *row[3:]) for row in rows}
    for shard in plan.shards:
        progress(shard.index / len(plan.shards))
        found = _of_part(storage, PlanFolder(plan.id).part(shard.index), wanted)
        if not found:
            continue
        for raw in open_shard(shard, everything=True):
            for sample in found.get(raw.key, []):
                yield from ((name, sample.written(raw)) for name in sample.names)


def _of_part(storage: Storage, part: str, wanted: dict[Place, "_Wanted"]) -> dict[str, list["_Wanted"]]:
    """Take a part's samples out of `wanted`, and return them by key."""
    if not wanted or not storage.exists(part):
        return {}
    with storage.open(part) as file:
        table = pq.read_table(file, columns=["shard", "key", "uid"], page_checksum_verification=True)
    found: dict[str, list[_Wanted]] = {}
    for place in wanted.keys() & zip(*(column.to_pylist() for column in table.columns), strict=True):
        found.setdefault(place[1], []).append(wanted.pop(place))
    return found


class _Wanted(NamedTuple):
    """A chosen sample: its uid, its copies, and its caption if it was chosen from several."""

    uid: str
    copies: int
    caption: str | None = None

    @property
    def names(self) -> list[str]:
        """Its keys in the new shards."""
        return [self.uid] if self.copies == 1 else [f"{self.uid}-{copy}" for copy in range(self.copies)]

    def written(self, raw: RawSample) -> RawSample:
        """Return the members to write: those of the sample, but of several captions the chosen one alone."""
        if self.caption is None:
            return raw
        others = {ext: data for ext, data in raw.members.items() if not CAPTION_MEMBER.fullmatch(ext)}
        text = {"txt": self.caption.encode(), "json": _with_uid(raw.members.get("json"), self.uid)}
        return replace(raw, members=others | text)


def _with_uid(data: bytes | None, uid: str) -> bytes:
    """Return a json member with the uid: the caption alone would give another one."""
    fields: object = {}
    with suppress(ValueError, RecursionError):
        fields = json.loads(data or b"{}")
    return json.dumps({**(fields if isinstance(fields, dict) else {}), "uid": uid}).encode()


class SampleTar:
    """Writes samples into a tar file and counts them. Times and owners are fixed: equal samples, equal bytes."""

    def __init__(self, samples: Iterator[Chosen]) -> None:
        self._chosen = samples
        self.samples = 0

    def fill(self, file: BinaryIO) -> None:
        options = {"user": "", "group": "", "mode": 0o644, "mtime": 0, "format": "PAX_FORMAT"}
        with TarWriter(file, encoder=False, keep_meta=True, **options) as tar:
            for name, raw in self._chosen:
                self.samples += 1
                tar.write(raw.members | {"__key__": name})
