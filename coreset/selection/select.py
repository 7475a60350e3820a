"""Cut a coreset from a plan's parts: exactly k samples, by a few queries, without a GPU."""

import hashlib
from datetime import UTC, datetime
from typing import NamedTuple

import duckdb

from coreset.errors import InvalidSpec
from coreset.schemas.manifest import Selection
from coreset.schemas.plan import Plan
from coreset.selection.candidates import make_scored, make_valued, one_row
from coreset.selection.quota import BY_VALUE, make_allowed, require_enough
from coreset.selection.ranking import open_samples
from coreset.selection.requirements import filled_from
from coreset.selection.sampling import make_drawn
from coreset.selection.subset_files import write_kept
from coreset.selection.suspects import make_suspects, write_suspects
from coreset.spec.columns import float32
from coreset.spec.job import SelectSpec
from coreset.spec.scores import cautions
from coreset.storage.storage import Storage
from coreset.storage.target_clusters import target_clusters


def select(storage: Storage, plan: Plan, job_id: str, spec: SelectSpec, suspects: bool = False) -> Selection:
    """Rank the samples, keep k, write subset.npy, subset.parquet and selection.json, and return the selection.

    Samples are kept by value, highest first, ties by uid; of rows with one uid the best is kept. The same question
    asked again gets the selection that is there. Its spec says what the recipe filled in.

    Args:
        suspects: also write suspects.parquet, of the samples that could have been kept and are not, the last first.

    Raises:
        InvalidSpec: the parts do not hold what it asks for, or there are not so many samples that can be ranked, that
            pass the filters, or that the quota lets through.
        PoolUnusable: no sample has scores.
    """
    spec = filled_from(plan, spec)
    found_id = selection_id(plan, spec)
    folder = selection_folder(job_id, found_id)
    if storage.exists(f"{folder}/selection.json"):
        return Selection.model_validate_json(storage.read(f"{folder}/selection.json"))
    with open_samples(storage, plan) as db:
        found = _make_kept(db, spec, target_clusters(storage, plan), suspects)
        files = write_kept(db, storage, folder, plan.scores, found.k)
        if suspects:
            files |= write_suspects(db, storage, folder, plan.scores)
        threshold, distinct = one_row(db, "SELECT min(value), count(*) FROM kept")
    selection = Selection(
        id=found_id,
        job_id=job_id,
        spec=spec,
        k=found.k,
        rankable=found.rankable,
        duplicates=found.duplicates,
        filtered=found.filtered,
        repeated=found.k - int(distinct),
        threshold=threshold,
        created_at=datetime.now(UTC),
        files=files,
        warnings=cautions(spec.by),
    )
    save_selection(storage, selection)
    return selection


def kept_uids(storage: Storage, plan: Plan, spec: SelectSpec) -> dict[str, int]:
    """Return what `select` would keep, and how often each, without writing anything. Raises what it raises."""
    spec = filled_from(plan, spec)
    with open_samples(storage, plan) as db:
        _make_kept(db, spec, target_clusters(storage, plan))
        rows = db.execute("SELECT replace(uid::VARCHAR, '-', ''), copies FROM kept").fetchall()
    return {str(uid): int(copies) for uid, copies in rows}


def pool_samples(storage: Storage, plan: Plan) -> int:
    """Return how many samples have scores, each uid counted once. Raises PoolUnusable if there is no finished part."""
    with open_samples(storage, plan) as db:
        (count,) = one_row(db, "SELECT count(DISTINCT uid::UUID) FROM samples")
    return int(count)


def save_selection(storage: Storage, selection: Selection) -> None:
    name = f"{selection_folder(selection.job_id, selection.id)}/selection.json"
    storage.write(name, selection.model_dump_json(indent=2).encode())


def selection_folder(job_id: str, selection_id: str) -> str:
    return f"jobs/{job_id}/selections/{selection_id}"


def selection_id(plan: Plan, spec: SelectSpec) -> str:
    """Return the selection's content key: the same plan and spec have the same id."""
    unknown_before = {name for name in ("within", "distinct") if not getattr(spec, name)}
    return hashlib.sha256(f"{plan.id}/{spec.model_dump_json(exclude=unknown_before)}".encode()).hexdigest()[:16]


class _Kept(NamedTuple):
    """What the table `kept` was made of, and the sum of its copies."""

    k: int
    rankable: int
    duplicates: int
    filtered: int


def _make_kept(db: duckdb.DuckDBPyConnection, spec: SelectSpec, target: list[int], suspects: bool = False) -> _Kept:
    """Make of the view `samples` the table `kept` (place, uid, value, rank, copies), and the suspects' if wanted."""
    filtered = make_scored(db, spec)
    duplicates = make_valued(db, spec)
    (rows,) = one_row(db, "SELECT count(*) FROM valued")
    rankable = int(rows) - duplicates
    k = _cut(db, spec, rankable, target)
    if suspects:
        make_suspects(db)
    db.execute("DROP VIEW ranked; DROP TABLE valued; DROP TABLE IF EXISTS allowed")
    return _Kept(k, rankable, duplicates, filtered)


def _cut(db: duckdb.DuckDBPyConnection, spec: SelectSpec, rankable: int, target: list[int]) -> int:
    """Make of the view `ranked` the table `kept` (place, uid, value, rank, copies); return the sum of its copies."""
    k = _wanted(spec, rankable)
    source, copies, limit = "ranked", "1", ""
    if spec.threshold is not None:
        source = f"(SELECT * FROM ranked WHERE value >= '{_threshold(spec)!r}'::DOUBLE)"
    if spec.sampling is not None:
        assert k is not None
        make_drawn(db, spec.sampling, k)
        source, copies = "drawn", "copies"
    elif spec.quota or spec.distinct:
        order = make_allowed(db, source, spec, k, target)
        k = require_enough(db, k)
        source = f"(SELECT * FROM allowed ORDER BY {order} LIMIT {k})"
    elif k is not None:
        limit = f"QUALIFY rank <= {k}"
    place = f"row_number() OVER (ORDER BY {BY_VALUE})"
    db.execute(f"""
        CREATE TEMP TABLE kept AS SELECT place, uid, value, {place} AS rank, {copies} AS copies FROM {source} {limit}
    """)
    return k or _reached(db, spec)


def _wanted(spec: SelectSpec, rankable: int) -> int | None:
    """Return k, or None if a threshold decides. Raises InvalidSpec if there are not so many samples."""
    if spec.threshold is not None:
        return None
    k = spec.k if spec.k is not None else max(1, round((spec.fraction or 0) * rankable))
    repeats = spec.sampling.max_repeats if spec.sampling else 1
    if k > rankable * repeats:
        often = f", {repeats} times each" if repeats > 1 else ""
        raise InvalidSpec(
            f"k is {k:,}, but only {rankable:,} samples can be ranked{often}. Give a smaller k, or a `fraction`.",
            field="k",
            got=k,
            rankable=rankable,
        )
    return k


def _threshold(spec: SelectSpec) -> float:
    """Return the threshold; that of a score itself in its precision, so that a value read from a part is reached."""
    assert spec.threshold is not None
    return float32(spec.threshold) if spec.scale == "raw" and len(spec.by) == 1 else spec.threshold


def _reached(db: duckdb.DuckDBPyConnection, spec: SelectSpec) -> int:
    """Return how many samples reach the threshold. Raises InvalidSpec if none does."""
    (kept,) = one_row(db, "SELECT count(*) FROM kept")
    if not kept:
        (best,) = one_row(db, "SELECT max(value) FROM ranked")
        raise InvalidSpec(
            f"no sample reaches the threshold {spec.threshold:g}; the best has {best:g}", field="threshold", best=best
        )
    return int(kept)
