"""Selection of exactly k samples from a plan's parts, by a few queries."""

import hashlib
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple

import duckdb

from coreset.errors import DamagedFile, InvalidSpec, NotFound
from coreset.schemas.manifest import Selection
from coreset.schemas.plan import Plan
from coreset.selection.candidates import create_scored, create_valued, one_row
from coreset.selection.large.run import Selected, select_large
from coreset.selection.quota import VALUE_ORDER, create_allowed, require_enough
from coreset.selection.ranking import open_samples
from coreset.selection.requirements import resolve_spec
from coreset.selection.sampling import create_sampled
from coreset.selection.size import kept_size, threshold_of
from coreset.selection.subset_files import write_subset
from coreset.selection.suspects import create_suspects, write_suspects
from coreset.spec.columns import CAPTION_INDEX
from coreset.spec.scores import cautions
from coreset.spec.selection import SelectSpec
from coreset.storage.layout import JobFolder, SelectionFolder
from coreset.storage.storage import Storage
from coreset.storage.target_clusters import load_target_clusters
from coreset.storage.verified import load_json, write_json


def select(storage: Storage, plan: Plan, job_id: str, spec: SelectSpec, suspects: bool = False) -> Selection:
    """Rank the samples, keep k, write subset.npy, subset.parquet and selection.json, and return the selection.

    Samples are selected by value, highest first, ties by uid; of rows with one uid the best counts. A selection that
    exists already is returned as it is. Its spec has the recipe's defaults filled in.

    Args:
        suspects: also write suspects.parquet, of the rankable samples that are not selected, the last first.

    Raises:
        InvalidSpec: the parts lack a column that the spec names, or fewer samples than it asks for can be ranked, pass
            the filters or are admitted by the quota.
        PoolUnusable: no sample has scores.
        DamagedFile: a part, its summary or the target's clusters are damaged.
    """
    spec = resolve_spec(plan, spec)
    found_id = selection_id(plan, spec)
    folder = JobFolder(job_id).selection(found_id)
    with suppress(NotFound, DamagedFile):
        return load_json(storage, folder.selection, Selection.model_validate_json)
    target = load_target_clusters(storage, plan)
    found = None if suspects else select_large(storage, plan, spec, target, folder)
    if found is None:
        found = _select_by_sql(storage, plan, spec, target, folder, suspects)
    selection = Selection(
        id=found_id,
        job_id=job_id,
        spec=spec,
        k=found.k,
        rankable=found.rankable,
        duplicates=found.duplicates,
        filtered=found.filtered,
        repeated=found.repeated,
        threshold=found.threshold,
        created_at=datetime.now(UTC),
        files=found.files,
        warnings=cautions(spec.by),
    )
    save_selection(storage, selection)
    return selection


def _select_by_sql(
    storage: Storage, plan: Plan, spec: SelectSpec, target: list[int], folder: SelectionFolder, suspects: bool
) -> Selected:
    """Select, and write the files. Raises what `select` raises."""
    with open_samples(storage, plan) as db:
        found = _create_kept(db, spec, target, suspects)
        files = write_subset(db, storage, folder, plan.subset_columns, found.k)
        if suspects:
            files |= write_suspects(db, storage, folder, plan.scores)
        threshold, distinct = one_row(db, "SELECT min(value), count(*) FROM kept")
    return Selected(
        k=found.k,
        rankable=found.rankable,
        duplicates=found.duplicates,
        filtered=found.filtered,
        repeated=found.k - int(distinct),
        threshold=threshold,
        files=files,
    )


def selected_uids(storage: Storage, plan: Plan, spec: SelectSpec) -> dict[str, int]:
    """Return the uids that `select` would select and their copies, without writing. Raises what `select` raises."""
    spec = resolve_spec(plan, spec)
    with open_samples(storage, plan) as db:
        _create_kept(db, spec, load_target_clusters(storage, plan))
        rows = db.execute("SELECT replace(uid::VARCHAR, '-', ''), copies FROM kept").fetchall()
    return {str(uid): int(copies) for uid, copies in rows}


def count_samples(storage: Storage, plan: Plan, pairs: bool = False) -> int:
    """Return the number of samples with scores, each uid once. Raises PoolUnusable if there is no finished part.

    Args:
        pairs: count several captions of one image, which share its uid, as several.
    """
    counted = f"(uid::UUID, {CAPTION_INDEX})" if pairs and plan.several_captions else "uid::UUID"
    with open_samples(storage, plan) as db:
        (count,) = one_row(db, f"SELECT count(DISTINCT {counted}) FROM samples")
    return int(count)


def save_selection(storage: Storage, selection: Selection) -> None:
    """Write selection.json, which says that the selection is complete."""
    name = JobFolder(selection.job_id).selection(selection.id).selection
    write_json(storage, name, selection.model_dump_json(indent=2))


def selection_id(plan: Plan, spec: SelectSpec) -> str:
    """Return the selection's content key, a hash of plan and resolved spec.

    The recipe's name is no part of it, since its fields are filled in; nor are fields that older versions lacked.
    """
    left_out = {"recipe"} | {name for name in ("within", "distinct") if not getattr(spec, name)}
    return hashlib.sha256(f"{plan.id}/{spec.model_dump_json(exclude=left_out)}".encode()).hexdigest()[:16]


class _KeptCounts(NamedTuple):
    """Counts of the table `kept`: k is the sum of its copies."""

    k: int
    rankable: int
    duplicates: int
    filtered: int


def _create_kept(
    db: duckdb.DuckDBPyConnection, spec: SelectSpec, target: list[int], suspects: bool = False
) -> _KeptCounts:
    """Create the table `kept` (place, uid, value, rank, copies) from the view `samples`, and `suspects` if wanted."""
    filtered = create_scored(db, spec)
    duplicates = create_valued(db, spec)
    (rows,) = one_row(db, "SELECT count(*) FROM valued")
    rankable = int(rows) - duplicates
    k = _cut(db, spec, rankable, target)
    if suspects:
        create_suspects(db)
    db.execute("DROP VIEW ranked; DROP TABLE valued; DROP TABLE IF EXISTS allowed")
    return _KeptCounts(k, rankable, duplicates, filtered)


def _cut(db: duckdb.DuckDBPyConnection, spec: SelectSpec, rankable: int, target: list[int]) -> int:
    """Create the table `kept` (place, uid, value, rank, copies) from the view `ranked`; return its sum of copies."""
    k = kept_size(spec, rankable)
    source, copies, limit = "ranked", "1", ""
    if spec.threshold is not None:
        source = f"(SELECT * FROM ranked WHERE value >= '{threshold_of(spec)!r}'::DOUBLE)"
    if spec.sampling is not None:
        assert k is not None
        create_sampled(db, spec.sampling, k)
        source, copies = "drawn", "copies"
    elif spec.quota or spec.distinct:
        order = create_allowed(db, source, spec, k, target)
        (allowed,) = one_row(db, "SELECT count(*) FROM allowed")
        k = require_enough(int(allowed), k)
        source = f"(SELECT * FROM allowed ORDER BY {order} LIMIT {k})"
    elif k is not None:
        limit = f"QUALIFY rank <= {k}"
    place = f"row_number() OVER (ORDER BY {VALUE_ORDER})"
    db.execute(f"""
        CREATE TEMP TABLE kept AS SELECT place, uid, value, {place} AS rank, {copies} AS copies FROM {source} {limit}
    """)
    return k or _reached(db, spec)


def _reached(db: duckdb.DuckDBPyConnection, spec: SelectSpec) -> int:
    """Return the number of samples that reach the threshold. Raises InvalidSpec if none does."""
    (kept,) = one_row(db, "SELECT count(*) FROM kept")
    if not kept:
        (best,) = one_row(db, "SELECT max(value) FROM ranked")
        raise InvalidSpec(
            f"no sample reaches the threshold {spec.threshold:g}; the best has {best:g}; lower it",
            field="threshold",
            best=best,
        )
    return int(kept)
