"""Cut a coreset from a plan's parts: exactly k samples, by one query, without a GPU."""

import hashlib
from datetime import UTC, datetime
from typing import cast

import duckdb

from coreset.errors import InvalidSpec, PoolUnusable
from coreset.kept import write_kept
from coreset.plan import Plan
from coreset.ranking import combined, make_ranks, open_samples, ranked
from coreset.result import Selection
from coreset.scores import cautions
from coreset.spec import SelectSpec
from coreset.storage import Storage


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
        _rank(db, spec)
        (rows,) = _one_row(db, "SELECT count(*) FROM valued")
        (duplicates,) = _one_row(db, "SELECT coalesce(sum(times - 1), 0) FROM repeated")
        rankable = int(rows - duplicates)
        k = _k(spec, rankable)
        place = "row_number() OVER (ORDER BY value DESC, uid) AS rank"
        db.execute(f"CREATE TEMP TABLE kept AS SELECT *, {place} FROM ranked QUALIFY rank <= {k}")
        db.execute("DROP VIEW ranked; DROP TABLE valued")
        files = write_kept(db, storage, folder, plan.scores, k)
        (threshold,) = _one_row(db, "SELECT min(value) FROM kept")
    selection = Selection(
        id=selection_id,
        job_id=job_id,
        spec=spec,
        k=k,
        rankable=rankable,
        duplicates=int(duplicates),
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


def _rank(db: duckdb.DuckDBPyConnection, spec: SelectSpec) -> None:
    """Make `valued` (place, uid, value), a row a sample, `repeated` (uid, times), the uids that come more than once,
    and `ranked`: of `valued` a row for each uid, the one of its best value, of these the first in the pool.
    """
    scores = list(spec.by)
    db.execute(f"CREATE TEMP TABLE scored AS SELECT place, uid::UUID AS uid, {', '.join(scores)} FROM samples")
    make_ranks(db, "scored", scores)
    value = combined(spec.by, spec.combine)
    db.execute(f"CREATE TEMP TABLE valued AS SELECT place, uid, {value} AS value FROM {ranked('scored', scores)}")
    db.execute("DROP TABLE scored")
    db.execute("CREATE TEMP TABLE repeated AS SELECT uid, count(*) AS times FROM valued GROUP BY uid HAVING times > 1")
    best = "row_number() OVER (PARTITION BY uid ORDER BY value DESC, place) = 1"
    db.execute(f"""
        CREATE TEMP VIEW ranked AS SELECT * FROM valued ANTI JOIN repeated USING (uid)
        UNION ALL SELECT * FROM valued SEMI JOIN repeated USING (uid) QUALIFY {best}
    """)


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
