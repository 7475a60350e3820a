"""Files beside a part that a spec asks to keep: embeddings, and losses at each checkpoint; rows as in the part."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from coreset.errors import DamagedFile
from coreset.schemas.manifest import File, ShardSummary
from coreset.schemas.part import SampleStatus
from coreset.schemas.plan import Plan
from coreset.spec.kept import KINDS_KEPT, Kept
from coreset.storage.layout import PlanFolder
from coreset.storage.storage import Storage
from coreset.storage.verified import require_listed
from coreset_workers.data.loader import Block

KEPT_COLUMNS: dict[Kept, tuple[str, ...]] = {
    "embeddings": ("image", "text"),
    "losses": ("loss_by_checkpoint", "cosine_by_checkpoint"),
}
"""Columns of each kind of file, beside `uid`: a list of one length per sample, null for a bad one."""

TYPES: dict[Kept, tuple[torch.dtype, pa.DataType]] = {
    "embeddings": (torch.float16, pa.float16()),
    "losses": (torch.float32, pa.float32()),
}


Columns = Mapping[str, Tensor]


class ShardOptions(NamedTuple):
    """What is written beside a part."""

    thumbnails: bool = False
    keep: tuple[Kept, ...] = ()

    def with_kept(self, kinds: Collection[Kept]) -> "ShardOptions":
        """Return the options that keep some more kinds."""
        return self._replace(keep=tuple(kind for kind in KINDS_KEPT if kind in {*self.keep, *kinds}))


PART_ALONE = ShardOptions()


class Beside:
    """Collects what is to be kept of a shard, block by block."""

    def __init__(self, keep: Collection[Kept]) -> None:
        self._keep = keep
        self._samples = 0
        self._rows: list[int] = []
        self._columns: dict[str, list[Tensor]] = {name: [] for name in kept_columns(keep)}

    def take(self, block: Block, columns: dict[str, Tensor]) -> None:
        """Take the columns to keep, (n, d) each, out of those of the block's n good samples."""
        self._rows += [self._samples + position for position in block.good]
        self._samples += len(block.samples)
        for name, pieces in self._columns.items():
            if block.good:
                pieces.append(columns.pop(name))

    def write(self, storage: Storage, plan: Plan, shard: int, part: pa.Table) -> dict[Kept, File]:
        """Write the files; `part` is the whole part of the shard."""
        columns = {name: torch.cat(pieces) for name, pieces in self._columns.items() if pieces}
        return {kind: write_kept(storage, plan, shard, kind, part, self._rows, columns) for kind in self._keep}


def kept_columns(keep: Collection[Kept]) -> list[str]:
    """Return the names of the columns of some kinds."""
    return [name for kind in keep for name in KEPT_COLUMNS[kind]]


def write_kept(
    storage: Storage, plan: Plan, shard: int, kind: Kept, part: pa.Table, rows: Sequence[int], columns: Columns
) -> File:
    """Write one kind of file of a shard.

    Args:
        part: the shard's part.
        rows: of the part, (n,), that the columns (n, d) belong to; the others are bad samples.
    """
    ok = np.array([status == SampleStatus.OK for status in part["status"].to_pylist()], dtype=bool)
    arrays: dict[str, pa.Array] = {"uid": part["uid"].combine_chunks()}
    dtype, arrow = TYPES[kind]
    for name in KEPT_COLUMNS[kind]:
        values = torch.zeros(len(part), _width(plan, kind), dtype=dtype)
        if len(rows):
            values[list(rows)] = columns[name].to(dtype)
        flat = pa.array(values.numpy().ravel(), arrow)
        arrays[name] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1], mask=pa.array(~ok))
    table = pa.table(arrays)
    path = PlanFolder(plan.id).kept(shard, kind)
    return storage.write_with(path, lambda file: pq.write_table(table, file, write_page_checksum=True), len(table))


def _width(plan: Plan, kind: Kept) -> int:
    """Return the length of the lists: of an embedding, or the number of checkpoints."""
    return len(plan.checkpoints) if kind == "losses" else int(str((plan.clip_model or plan.model).config["embed_dim"]))


def has_kept(storage: Storage, plan: Plan, summary: ShardSummary, keep: Collection[Kept]) -> bool:
    """Return whether all that is to be kept of a shard is there and undamaged."""
    folder = PlanFolder(plan.id)
    with suppress(DamagedFile):
        for kind in keep:
            if kind not in summary.kept:
                return False
            require_listed(storage, folder.kept(summary.shard, kind), summary.kept[kind])
        return True
    return False
