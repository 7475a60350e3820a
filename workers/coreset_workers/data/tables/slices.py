"""Shards of files of rows: which columns make a sample, and where a large file is cut."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from coreset.errors import ShardUnreadable
from coreset.schemas.plan import PlannedRows
from coreset.spec.pool import PoolSpec
from coreset_workers.data.formats import format_of
from coreset_workers.data.tables.columns import Kind, resolve_columns
from coreset_workers.data.tables.lists import ListFile, open_list
from coreset_workers.data.tables.process import DamagedRows, ask

ROWS_PER_SHARD = 10_000
"""Rows of a shard, or a few more: a large file is cut into several, as img2dataset cuts its shards."""

ROWS_SEEN = 100
"""Rows of a jsonl file whose fields are taken for its columns."""


class PlannedSlice(NamedTuple):
    """A shard of a file: its rows, bytes, and number of rows if it is known."""

    rows: PlannedRows
    size: int
    samples: int | None


def plan_slices(uri: str, size: int, pool: PoolSpec) -> list[PlannedSlice]:
    """Return the shards of a file of rows, one if it is small.

    Raises:
        ShardUnreadable: the file cannot be read, or no column has images or captions.
    """
    plan = {"parquet": _parquet, "arrow": _arrow, "list": _list}[format_of(uri)]
    try:
        return plan(uri, size, pool)
    except DamagedRows as error:
        raise ShardUnreadable(f"{uri}: {error}", uri=uri) from error


def _parquet(uri: str, size: int, pool: PoolSpec) -> list[PlannedSlice]:
    kinds, groups = ask("describe_parquet", uri)
    found = resolve_columns(uri, kinds, pool.image_field, pool.caption_field)
    rows = sum(count for count, _ in groups)
    if rows <= ROWS_PER_SHARD:
        return [PlannedSlice(found, size, rows)]
    cuts = _cuts_anywhere(groups) if kinds[found.image] == "text" else _cuts_at_groups(groups)
    return [PlannedSlice(_slice(found, first, end), bytes_, end - first) for first, end, bytes_ in cuts]


def _cuts_anywhere(groups: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """Yield (first row, end, bytes): a file without images is so small that rows can be skipped."""
    rows, size = (sum(column) for column in zip(*groups, strict=True))
    for first in range(0, rows, ROWS_PER_SHARD):
        end = min(first + ROWS_PER_SHARD, rows)
        yield first, end, size * (end - first) // rows


def _cuts_at_groups(groups: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """Yield (first row, end, bytes) of consecutive row groups: within one, rows cannot be skipped without reading."""
    first = end = size = 0
    for rows, size_of_group in groups:
        end, size = end + rows, size + size_of_group
        if end - first >= ROWS_PER_SHARD:
            yield first, end, size
            first, size = end, 0
    if first < end:
        yield first, end, size


def _arrow(uri: str, size: int, pool: PoolSpec) -> list[PlannedSlice]:
    kinds, rows = ask("describe_arrow", uri, "://" not in uri)
    return [PlannedSlice(resolve_columns(uri, kinds, pool.image_field, pool.caption_field), size, rows)]


def _list(uri: str, size: int, pool: PoolSpec) -> list[PlannedSlice]:
    with open_list(uri) as file:
        kinds: dict[str, Kind] = dict.fromkeys(file.header, "text") if file.header else _kinds_of_json(file)
        found = resolve_columns(uri, kinds, pool.image_field, pool.caption_field)
        offsets, rows = [file.start], 0
        for _ in file.rows():
            rows += 1
            if rows % ROWS_PER_SHARD == 0:
                offsets.append(file.offset)
    ends = [*offsets[1:], *([file.offset] if rows % ROWS_PER_SHARD else [])]
    if len(ends) <= 1:
        return [PlannedSlice(found, size, rows)]
    counts = [min(ROWS_PER_SHARD, rows - index * ROWS_PER_SHARD) for index in range(len(ends))]
    pairs = zip(offsets, ends, counts, strict=False)
    return [PlannedSlice(_slice(found, first, end), end - first, count) for first, end, count in pairs]


def _kinds_of_json(file: ListFile) -> dict[str, Kind]:
    kinds: dict[str, Kind] = {}
    for _, row in zip(range(ROWS_SEEN), file.rows(), strict=False):
        for name, value in (row or {}).items():
            if kinds.get(name, "other") == "other":
                kinds[name] = _kind_of_json(value)
    return kinds


def _kind_of_json(value: object) -> Kind:
    texts = isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)
    return "text" if isinstance(value, str) else "texts" if texts else "other"


def _slice(rows: PlannedRows, first: int, end: int) -> PlannedRows:
    return rows.model_copy(update={"first": first, "end": end})
