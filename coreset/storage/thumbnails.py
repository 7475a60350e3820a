"""The file of a shard's thumbnails, beside its part: what workers write, and how a few of them are read."""

import posixpath
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from coreset.schemas.plan import Plan
from coreset.storage.storage import Storage

SCHEMA = pa.schema(
    [
        pa.field("uid", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("image", pa.binary(), nullable=False),
    ]
)
"""A row for each sample whose image could be decoded; `image` is a JPEG."""


def thumbnails_path(plan: Plan, shard: int) -> str:
    return f"plans/{plan.id}/thumbnails/{plan.part_name(shard)}"


def read_thumbnails(storage: Storage, plan: Plan, wanted: Iterable[tuple[str, str, int]]) -> dict[str, bytes]:
    """Return JPEGs by uid of those samples, given as (uid, shard's base name, row), that have one."""
    rows: dict[str, dict[int, str]] = {}
    for uid, shard, row in wanted:
        rows.setdefault(shard, {})[row] = uid
    found: dict[str, bytes] = {}
    for shard in plan.shards:
        if names := rows.get(posixpath.basename(shard.uri)):
            found |= _of_shard(storage, thumbnails_path(plan, shard.index), names)
    return found


def _of_shard(storage: Storage, name: str, uids: dict[int, str]) -> dict[str, bytes]:
    """Return those rows that have the uid they should have: two shards may share a base name."""
    if not storage.exists(name):
        return {}
    wanted = pc.field("row").isin(list(uids))  # pyright: ignore[reportUnknownMemberType]
    table = storage.parquet([name]).to_table(filter=wanted)
    return {row["uid"]: row["image"] for row in table.to_pylist() if uids[row["row"]] == row["uid"]}
