"""Thumbnails of a shard: the schema of their file, and reading a few of them."""

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from coreset.schemas.plan import Plan
from coreset.storage.layout import PlanFolder
from coreset.storage.storage import Storage

SCHEMA = pa.schema(
    [
        pa.field("uid", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("image", pa.binary(), nullable=False),
    ]
)
"""One row per sample whose image could be decoded; `image` is a JPEG."""


def read_thumbnails(storage: Storage, plan: Plan, wanted: Iterable[tuple[str, str, int]]) -> dict[str, bytes]:
    """Return the JPEGs by uid of samples given as (uid, shard's base name, row); samples without one are left out."""
    rows: dict[str, set[tuple[int, str]]] = {}
    for uid, shard, row in wanted:
        rows.setdefault(shard, set()).add((row, uid))
    found: dict[str, bytes] = {}
    for shard in plan.shards:
        if names := rows.get(shard.name):
            found |= _of_shard(storage, PlanFolder(plan.id).thumbnails(shard.index), names)
    return found


def _of_shard(storage: Storage, name: str, places: set[tuple[int, str]]) -> dict[str, bytes]:
    """Return the JPEGs of the rows whose uid matches: two shards may share a base name, and two captions a row."""
    if not storage.exists(name):
        return {}
    wanted = pc.field("row").isin([row for row, _ in places])  # pyright: ignore[reportUnknownMemberType]
    table = storage.parquet([name]).to_table(filter=wanted)
    return {row["uid"]: row["image"] for row in table.to_pylist() if (row["row"], row["uid"]) in places}
