"""Cut a coreset from a plan's parts: exactly k samples, by one query, without a GPU."""

import hashlib
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import BinaryIO, cast

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from coreset.errors import InvalidSpec, PoolUnusable
from coreset.plan import Plan
from coreset.ranking import combined, open_samples, rank_columns
from coreset.result import File, Selection
from coreset.scores import cautions
from coreset.spec import SelectSpec
from coreset.storage import Storage
from coreset.uids import to_subset

ROWS = 100_000
"""Rows that are in Python's hands at once."""


def select(storage: Storage, plan: Plan, job_id: str, spec: SelectSpec) -> Selection:
    """Rank the samples, keep k, write subset.npy, subset.parquet and selection.json, and return the selection.

    Samples are kept by value, highest first, ties by uid; of rows with one uid the best is kept. The same question
    asked again gets the selection that is there.

    Raises:
        InvalidSpec: k is larger than the number of samples that can be ranked.
        PoolUnusable: no sample has scores.
    """
    selection_id = _id(plan, spec)
    folder = selection_folder(job_id, selection_id)
    if storage.exists(f"{folder}/selection.json"):
        return Selection.model_validate_json(storage.read(f"{folder}/selection.json"))
    with open_samples(storage, plan) as db:
        _rank(db, plan, spec)
        rows, rankable = _one_row(db, "SELECT (SELECT count(*) FROM samples), count(*) FROM ranked")
        k = _k(spec, int(rankable))
        kept = f"SELECT * FROM ranked ORDER BY value DESC, uid LIMIT {k}"
        db.execute(
            f"CREATE TEMP TABLE kept AS SELECT *, row_number() OVER (ORDER BY value DESC, uid) AS rank FROM ({kept})"
        )
        files = _write(db, storage, folder, plan, k)
        (threshold,) = _one_row(db, "SELECT min(value) FROM kept")
    selection = Selection(
        id=selection_id,
        job_id=job_id,
        spec=spec,
        k=k,
        rankable=int(rankable),
        duplicates=int(rows) - int(rankable),
        threshold=threshold,
        created_at=datetime.now(UTC),
        files=files,
        warnings=cautions(spec.by),
    )
    save_selection(storage, selection)
    return selection


def save_selection(storage: Storage, selection: Selection) -> None:
    name = f"{selection_folder(selection.job_id, selection.id)}/selection.json"
    storage.write(name, selection.model_dump_json(indent=2).encode())


def selection_folder(job_id: str, selection_id: str) -> str:
    return f"jobs/{job_id}/selections/{selection_id}"


def _id(plan: Plan, spec: SelectSpec) -> str:
    """Return the selection's content key: the same plan and spec have the same id."""
    return hashlib.sha256(f"{plan.id}/{spec.model_dump_json()}".encode()).hexdigest()[:16]


def _rank(db: duckdb.DuckDBPyConnection, plan: Plan, spec: SelectSpec) -> None:
    """Make the table `ranked`: a row for each uid, with its scores and `value`."""
    scores = ", ".join(score.value for score in plan.scores)
    ranks = f"SELECT uid, shard, key, {scores}, {rank_columns(list(spec.by))} FROM samples"
    valued = f"SELECT uid, shard, key, {scores}, {combined(spec.by, spec.combine)} AS value FROM ({ranks})"
    first = "row_number() OVER (PARTITION BY uid ORDER BY value DESC, shard, key) = 1"
    db.execute(f"CREATE TEMP TABLE ranked AS SELECT * FROM ({valued}) QUALIFY {first}")


def _k(spec: SelectSpec, rankable: int) -> int:
    if rankable == 0:
        raise PoolUnusable("no sample has scores: every one was bad. The job's counts say why.")
    k = spec.k if spec.k is not None else max(1, round((spec.fraction or 0) * rankable))
    if k > rankable:
        raise InvalidSpec(
            f"k is {k:,}, but only {rankable:,} samples can be ranked. Give a smaller k, or a `fraction`.",
            field="k",
            got=k,
            rankable=rankable,
        )
    return k


def _one_row(db: duckdb.DuckDBPyConnection, query: str) -> tuple[float, ...]:
    row = db.execute(query).fetchone()
    assert row is not None
    return cast(tuple[float, ...], row)


def _write(db: duckdb.DuckDBPyConnection, storage: Storage, folder: str, plan: Plan, k: int) -> dict[str, File]:
    def table(file: BinaryIO) -> None:
        scores = ", ".join(score.value for score in plan.scores)
        columns = f"uid, shard, key, rank, value, {scores}"
        batches = _batches(db, f"SELECT {columns} FROM kept ORDER BY rank")
        first = next(batches)
        with pq.ParquetWriter(file, first.schema) as writer:
            writer.write_batch(first)
            for batch in batches:
                writer.write_batch(batch)

    uids = [uid for batch in _batches(db, "SELECT uid FROM kept") for uid in cast(list[str], batch["uid"].to_pylist())]
    subset = io.BytesIO()
    np.save(subset, to_subset(uids))
    return {
        "subset.npy": storage.write(f"{folder}/subset.npy", subset.getvalue(), rows=k),
        "subset.parquet": storage.write_with(f"{folder}/subset.parquet", table, rows=k),
    }


def _batches(db: duckdb.DuckDBPyConnection, query: str) -> Iterator[pa.RecordBatch]:
    yield from db.sql(query).to_arrow_reader(ROWS)
