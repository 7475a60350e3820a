"""Write a shard's thumbnails beside its part."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from coreset.schemas.plan import Plan
from coreset.storage.layout import PlanFolder
from coreset.storage.storage import Storage
from coreset.storage.thumbnails import SCHEMA
from coreset_workers.data.decode import Sample

ROWS_TOGETHER = 64
"""Rows of a row group: so many are read for one of them. JPEGs are not compressed again."""


def write_thumbnails(storage: Storage, plan: Plan, shard: int, samples: Sequence[Sample]) -> None:
    """Write the thumbnails of those samples that have one, in the order of the tar."""
    rows = [{"uid": s.uid, "row": s.row, "image": s.thumbnail} for s in samples if s.thumbnail is not None]
    table = pa.Table.from_pylist(rows, SCHEMA)
    storage.write_with(
        PlanFolder(plan.id).thumbnails(shard),
        lambda file: pq.write_table(table, file, row_group_size=ROWS_TOGETHER, compression="none"),
    )
