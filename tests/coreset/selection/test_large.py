"""Selections by columns against the SQL: the same counts, errors and files, to the byte."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from coreset.errors import CoresetError, DamagedFile
from coreset.schemas.part import part_schema
from coreset.schemas.plan import Plan
from coreset.selection.large import copies, cut, ranks, run, scan, scratch, subset
from coreset.selection.select import _select_by_sql, resolve_spec, select
from coreset.spec.selection import SelectSpec
from coreset.storage.layout import PlanFolder, SelectionFolder
from coreset.storage.storage import Storage
from coreset.storage.target_clusters import load_target_clusters, save_target_clusters
from tests.coreset.selection.strategies import pools, specs
from tests.coreset.selections import Row, plan_of, write_parts, write_summary


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Divide even a few rows into blocks, slabs, partitions and pieces."""
    with monkeypatch.context() as patch:
        patch.setattr(run, "LARGE_POOL", 1)
        for module, name, value in (
            (scan, "GROUP_ROWS", 7),
            (scan, "PARTITION_ROWS", 8),
            (scratch, "BLOCK", 16),
            (scratch, "SPARSE", 4),
            (ranks, "SLAB_ROWS", 5),
            (copies, "GATHERED_ROWS", 3),
            (cut, "BOUNDARY_ROWS", 1),
            (subset, "PIECE_ROWS", 9),
            (subset, "SPLIT_ROWS", 11),
            (subset, "SAMPLED", 2),
        ):
            patch.setattr(module, name, value)
        yield


def outcome(storage: Storage, work: Any) -> Any:
    """Return counts and bytes of a selection, or the error's text."""
    try:
        found = work()
    except CoresetError as error:
        return str(error)
    if found is None:
        return None
    counts = (found.k, found.rankable, found.duplicates, found.filtered, found.repeated, found.threshold)
    return counts, {name: Path(file.uri).read_bytes() for name, file in found.files.items()}


def both(storage: Storage, plan: Plan, spec: SelectSpec) -> tuple[Any, Any]:
    spec, target = resolve_spec(plan, spec), load_target_clusters(storage, plan)
    large = outcome(storage, lambda: run.select_large(storage, plan, spec, target, SelectionFolder("large")))
    sql = outcome(storage, lambda: _select_by_sql(storage, plan, spec, target, SelectionFolder("sql"), False))
    return large, sql


def without_sql_features(spec: SelectSpec) -> SelectSpec:
    kept = {name: wanted for name, wanted in spec.filters.items() if not wanted.by_rank}
    scale = "raw" if spec.scale == "zscore" else spec.scale
    return spec.model_copy(update={"winsorise": 0.0, "scale": scale, "filters": kept})


@given(pools, specs(), st.lists(st.integers(0, 9), max_size=4))
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_selection_is_that_of_the_sql_to_the_byte(
    tmp_path_factory: pytest.TempPathFactory, shards: tuple[list[Row], list[Row]], spec: SelectSpec, target: list[int]
) -> None:
    storage, plan = Storage(str(tmp_path_factory.mktemp("storage"))), plan_of(2)
    assume(write_parts(storage, plan, shards))
    save_target_clusters(storage, plan, target)
    large, sql = both(storage, plan, without_sql_features(spec))
    event("by SQL" if large is None else "refused" if isinstance(large, str) else "selected")
    if large is not None:
        assert large == sql


def drawn(rows: int, seed: int = 0) -> dict[str, Any]:
    """Return columns with ties, repeated uids and captions, as `write_columns` takes them."""
    random = np.random.default_rng(seed)
    return {
        "uid": [f"{number:032x}" for number in random.integers(0, 2**62, rows) % (50 * rows)],
        "caption": [f"caption {number}" for number in random.integers(0, rows, rows)],
        "clip_score": np.round(random.standard_normal(rows), 2).astype("f4"),
        "random": random.random(rows, dtype="f4"),
        "cluster": random.integers(0, 4, rows).astype("i4"),
    }


def write_columns(storage: Storage, plan: Plan, shard: int, columns: dict[str, Any]) -> None:
    rows, schema = len(columns["uid"]), part_schema(plan)
    texts = {"shard": f"{shard}.tar", "key": "k", "uid_source": "json", "status": "ok"}
    given = {**{name: [text] * rows for name, text in texts.items()}, "row": np.arange(rows), **columns}
    absent = {field.name: pa.nulls(rows, field.type) for field in schema if field.name not in given}
    table = pa.Table.from_pydict({**given, **absent}, schema=schema)
    name = PlanFolder(plan.id).part(shard)
    write_summary(storage, plan, shard, storage.write_with(name, lambda file: pq.write_table(table, file), rows))


RECIPE = {"fraction": 0.9, "by": {"clip_score": 1, "random": 0.3}, "within": {"clip_score": "cluster"}}
BALANCED = {"quota": {"field": "cluster", "balance": "target"}, "distinct": "caption"}


def test_files_of_several_row_groups_are_those_of_the_sql(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in ((scratch, "BLOCK", 9_999), (scratch, "SPARSE", 99), (subset, "PIECE_ROWS", 41_000)):
        monkeypatch.setattr(module, name, value)
    for module, name in ((scan, "PARTITION_ROWS"), (scan, "GROUP_ROWS"), (ranks, "SLAB_ROWS"), (cut, "BOUNDARY_ROWS")):
        monkeypatch.setattr(module, name, 30_000)
    storage, plan = Storage(str(tmp_path)), plan_of(2)
    for shard in range(2):
        write_columns(storage, plan, shard, drawn(72_000, shard))
    save_target_clusters(storage, plan, [1, 5, 0, 2])
    large, sql = both(storage, plan, SelectSpec.model_validate({**RECIPE, **BALANCED}))
    assert large == sql
    assert large[0][0] > subset.ROW_GROUP_STRIDE


@pytest.mark.parametrize("score", [float("nan"), float("inf"), None])
def test_parts_that_only_the_sql_can_read_are_left_to_it(tmp_path: Path, score: float | None) -> None:
    storage, plan = Storage(str(tmp_path)), plan_of(1)
    columns = drawn(20)
    columns["random"] = [score, *columns["random"][1:].tolist()]
    write_columns(storage, plan, 0, columns)
    spec = resolve_spec(plan, SelectSpec.model_validate(RECIPE))
    assert run.select_large(storage, plan, spec, [], SelectionFolder("large")) is None
    assert select(storage, plan, "job", spec).k > 15


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_a_damaged_part_is_an_error(tmp_path: Path, damage: str) -> None:
    storage, plan = Storage(str(tmp_path)), plan_of(1)
    write_columns(storage, plan, 0, drawn(20))
    part = tmp_path / PlanFolder(plan.id).part(0)
    data = bytearray(part.read_bytes())
    data[50] ^= 1
    part.unlink() if damage == "gone" else part.write_bytes(data)
    with pytest.raises(DamagedFile):
        select(storage, plan, "job", SelectSpec.model_validate(RECIPE))
