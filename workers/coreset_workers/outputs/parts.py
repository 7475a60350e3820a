"""Parts of a plan: one Parquet file and one summary per shard."""

from contextlib import suppress
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from coreset.errors import DamagedFile, NotFound
from coreset.schemas.manifest import ShardSummary
from coreset.schemas.part import SampleStatus, part_schema
from coreset.schemas.plan import Plan
from coreset.spec.columns import metadata_column
from coreset.spec.scores import Score
from coreset.storage.plan_files import require_part
from coreset.storage.storage import Storage
from coreset.uids import random_score
from coreset_workers.data.decode import Sample


def part_table(plan: Plan, shard: str, samples: list[Sample], good: list[int], columns: dict[str, Tensor]) -> pa.Table:
    """Return the rows of a part, bad samples with null scores. A sample with a score that is not finite becomes bad."""
    schema = part_schema(plan)
    finite = torch.ones(len(good), dtype=torch.bool)
    for column in columns.values():  # in the part's precision, in which a large score may overflow
        finite &= column.float().isfinite().reshape(len(good), -1).all(1)
    values = {name: column.tolist() for name, column in columns.items()}
    rows: list[dict[str, Any]] = []
    place = {position: i for i, position in enumerate(good)}
    for position, sample in enumerate(samples):
        row = {
            "uid": sample.uid,
            "shard": shard,
            "key": sample.key,
            "row": sample.row,
            "uid_source": sample.uid_source.value,
            "status": sample.status.value,
            "caption": sample.caption,
            "caption_index": sample.caption_index,
            **dict(zip(("image_width", "image_height"), sample.size or (), strict=False)),
            **{metadata_column(field): value for field, value in sample.metadata.items()},
        }
        if position in place:
            scores = {name: column[place[position]] for name, column in values.items()}
            if Score.RANDOM in plan.scores:
                scores[Score.RANDOM] = random_score(sample.uid, plan.seed)
            row |= scores if finite[place[position]] else {"status": SampleStatus.NON_FINITE.value}
        rows.append(row)
    return pa.Table.from_pylist(rows, schema)


def find_part(storage: Storage, plan: Plan, shard: int) -> ShardSummary | None:
    """Return the summary of a shard whose part is there and undamaged, or None."""
    with suppress(NotFound, DamagedFile):
        return require_part(storage, plan.id, shard)
    return None
