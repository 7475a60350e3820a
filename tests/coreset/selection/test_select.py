"""Selections against a slow one in plain Python, and their files against DataComp's rules."""

import io
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from coreset.errors import InvalidSpec, PoolUnusable
from coreset.schemas.manifest import Selection
from coreset.schemas.part import part_schema
from coreset.schemas.plan import Plan
from coreset.selection.agreement import compare_with_clip_score
from coreset.selection.select import select
from coreset.spec.scores import SCORES as SCORES_TOLD
from coreset.spec.scores import Score
from coreset.spec.selection import SelectSpec
from coreset.storage.layout import PlanFolder
from coreset.storage.storage import Storage
from coreset.storage.verified import load_json
from coreset.uids import from_subset
from tests.coreset import selections
from tests.coreset.selections import write_summary

SCORES = [Score.CLIP_SCORE, Score.RANDOM]
Rows = list[tuple[str, float, float]]
"""(uid, clip_score, random) of the good samples."""


plan_of = partial(selections.plan_of, part_version=1, metadata=[], clusters=0)
"""Plans as they were before parts had more columns."""


def write_part(storage: Storage, plan: Plan, shard: int, rows: Iterable[tuple[str, float, float]]) -> None:
    table = [
        {"uid": uid, "shard": f"{shard}.tar", "key": f"{i:03}", "row": i, "uid_source": "json", "status": "ok",
         "caption": "c", "clip_score": clip, "random": random, "diffin_eq9": -random}
        for i, (uid, clip, random) in enumerate(rows)
    ]  # fmt: skip
    bad = {"uid": "b" * 32, "shard": f"{shard}.tar", "key": "bad", "row": 99, "uid_source": "json"}
    table.append({**bad, "status": "bad_image"})
    name = PlanFolder(plan.id).part(shard)
    part = pa.Table.from_pylist(table, part_schema(plan))
    file = storage.write_with(name, lambda file: pq.write_table(part, file), len(part))
    write_summary(storage, plan, shard, file)


def mean_ranks(values: list[float]) -> list[float]:
    """Ranks scaled to 0..1, ties sharing their mean: counted one by one."""
    below = [sum(w < v for w in values) + (sum(w == v for w in values) - 1) / 2 for v in values]
    return [rank / max(1, len(values) - 1) for rank in below]


def slow_select(rows: Rows, spec: SelectSpec) -> list[str]:
    columns = {Score.CLIP_SCORE: [r[1] for r in rows], Score.RANDOM: [r[2] for r in rows]}
    ranks = {score: mean_ranks(columns[score]) for score in spec.by}
    put_together = {"mix": lambda i: sum(w * ranks[s][i] for s, w in spec.by.items()) / sum(spec.by.values()),
                    "intersection": lambda i: min(r[i] for r in ranks.values()),
                    "union": lambda i: max(r[i] for r in ranks.values())}[spec.combine]  # fmt: skip
    best: dict[str, float] = {}
    for i, (uid, _, _) in enumerate(rows):
        best[uid] = max(best.get(uid, -1.0), put_together(i))
    return sorted(best, key=lambda uid: (-best[uid], uid))


uids = st.integers(0, 30).map(lambda n: f"{n:032x}")
values = st.integers(-8, 8).map(lambda n: n / 8)
rows_of_two_shards = st.tuples(*(st.lists(st.tuples(uids, values, values), max_size=25) for _ in range(2)))
ways = st.sampled_from(["mix", "intersection", "union"])
weights = st.sampled_from([{"clip_score": 1}, {"clip_score": 1, "random": 1}, {"clip_score": 2, "random": 0.5}])


@given(rows_of_two_shards, ways, weights, st.floats(0.01, 1))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_coreset_is_the_slow_one(
    tmp_path_factory: pytest.TempPathFactory, shards: tuple[Rows, Rows], combine: str, by: dict, fraction: float
) -> None:
    storage, plan = Storage(str(tmp_path_factory.mktemp("storage"))), plan_of(2)
    for index, rows in enumerate(shards):
        write_part(storage, plan, index, rows)
    together = [row for rows in shards for row in rows]
    spec = SelectSpec(fraction=fraction, by=by, combine=combine)
    if not together:
        with pytest.raises(PoolUnusable):
            select(storage, plan, "job", spec)
        return
    expected = slow_select(together, spec)
    selection = select(storage, plan, "job", spec)
    kept = pq.read_table(selection.files["subset.parquet"].uri)
    assert selection.k == max(1, round(fraction * len(expected)))
    assert kept["uid"].to_pylist() == expected[: selection.k]
    assert kept["rank"].to_pylist() == list(range(1, selection.k + 1))
    assert (selection.rankable, selection.duplicates) == (len(expected), len(together) - len(expected))
    assert selection.threshold == pytest.approx(kept["value"].to_pylist()[-1])


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Storage, Plan, Rows]:
    """Two parts of 50 samples with ties."""
    storage, plan = Storage(str(tmp_path)), plan_of(2)
    random = np.random.default_rng(0)
    numbers = random.integers(0, 2**63, size=(100, 2))
    rows = [(f"{a:016x}{b:016x}", float(c), float(r)) for (a, b), (c, r) in
            zip(numbers, random.integers(0, 40, size=(100, 2)) / 40, strict=True)]  # fmt: skip
    for index in range(2):
        write_part(storage, plan, index, rows[50 * index : 50 * (index + 1)])
    return storage, plan, rows


def test_the_subset_file_is_as_datacomp_reads_it(stored: tuple[Storage, Plan, Rows]) -> None:
    storage, plan, _ = stored
    selection = select(storage, plan, "job", SelectSpec(k=17, by="clip_score"))
    subset = np.load(io.BytesIO(storage.read(f"jobs/job/selections/{selection.id}/subset.npy")))
    assert subset.dtype == np.dtype("u8,u8")
    assert subset.tolist() == sorted(subset.tolist())
    assert sorted(from_subset(subset)) == sorted(
        pq.read_table(selection.files["subset.parquet"].uri)["uid"].to_pylist()
    )
    assert len(subset) == 17


def test_the_table_holds_every_score_and_where_the_sample_is(stored: tuple[Storage, Plan, Rows]) -> None:
    storage, plan, rows = stored
    selection = select(storage, plan, "job", SelectSpec(k=100, by={"clip_score": 1, "random": 1}))
    kept = {row["uid"]: row for row in pq.read_table(selection.files["subset.parquet"].uri).to_pylist()}
    for place, (uid, clip, random) in enumerate(rows):
        row = kept[uid]
        assert (row["shard"], row["key"]) == (f"{place // 50}.tar", f"{place % 50:03}")
        assert (row["clip_score"], row["random"]) == (np.float32(clip), np.float32(random))


def test_the_same_question_gets_the_selection_that_is_there(stored: tuple[Storage, Plan, Rows]) -> None:
    storage, plan, _ = stored
    first = select(storage, plan, "job", SelectSpec(k=5, by="random"))
    assert select(storage, plan, "job", SelectSpec(k=5, by="random")) == first
    assert select(storage, plan, "job", SelectSpec(k=6, by="random")).id != first.id


@pytest.mark.parametrize(("by", "warned"), [({"random": 1}, False), ({"random": 1, "diffin_eq9": 1}, True)])
def test_who_ranks_by_a_score_is_told_what_is_measured_against_it(tmp_path: Path, by: dict, warned: bool) -> None:
    storage = Storage(str(tmp_path))
    plan = plan_of(1).model_copy(update={"scores": [*SCORES, Score.DIFFIN_EQ9]})
    write_part(storage, plan, 0, [(f"{i:032x}", 0.5, i / 4) for i in range(4)])
    selection = select(storage, plan, "job", SelectSpec(k=2, by=by))
    assert selection.warnings == ([SCORES_TOLD[Score.DIFFIN_EQ9].caution] if warned else [])
    stored = load_json(storage, f"jobs/job/selections/{selection.id}/selection.json", Selection.model_validate_json)
    assert stored.warnings == selection.warnings


def test_more_than_there_is_is_refused_with_the_numbers(stored: tuple[Storage, Plan, Rows]) -> None:
    storage, plan, _ = stored
    with pytest.raises(InvalidSpec, match="k is 101, but only 100 samples"):
        select(storage, plan, "job", SelectSpec(k=101, by="random"))


def test_a_part_without_its_summary_does_not_count(stored: tuple[Storage, Plan, Rows]) -> None:
    storage, plan, _ = stored
    storage.delete(f"plans/{plan.id}/parts/000001.json")
    assert select(storage, plan, "job", SelectSpec(fraction=1, by="random")).k == 50


def test_without_a_finished_part_there_is_nothing_to_select(stored: tuple[Storage, Plan, Rows]) -> None:
    storage, plan, _ = stored
    for index in range(2):
        storage.delete(f"plans/{plan.id}/parts/00000{index}.json")
    with pytest.raises(PoolUnusable, match="no shard was scored"):
        select(storage, plan, "job", SelectSpec(fraction=1, by="random"))


@pytest.mark.parametrize("root", ["[a-b]*", "what? it's", "memory://bucket/{root}"])
def test_any_storage_is_read_whatever_its_name(tmp_path: Path, root: str, stored: tuple[Storage, Plan, Rows]) -> None:
    unlike = Storage(str(tmp_path / root) if "://" not in root else root.format(root=tmp_path.name))
    local, plan, rows = stored
    for index in range(2):
        write_part(unlike, plan, index, rows[50 * index : 50 * (index + 1)])
    spec = SelectSpec(k=31, by={"clip_score": 1, "random": 1})
    files = [select(storage, plan, "job", spec).files for storage in (local, unlike)]
    assert files[0]["subset.npy"].sha256 == files[1]["subset.npy"].sha256
    assert files[0]["subset.parquet"].sha256 == files[1]["subset.parquet"].sha256


def test_of_rows_with_one_uid_and_value_the_pools_first_is_kept(tmp_path: Path) -> None:
    storage, plan = Storage(str(tmp_path)), plan_of(2)
    write_part(storage, plan, 0, [("1".zfill(32), 0.5, 0.5), ("2".zfill(32), 0.1, 0.5)])
    write_part(storage, plan, 1, [("2".zfill(32), 0.1, 0.5), ("1".zfill(32), 0.9, 0.5)])
    selection = select(storage, plan, "job", SelectSpec(fraction=1, by="clip_score"))
    kept = pq.read_table(selection.files["subset.parquet"].uri).to_pylist()
    assert [(row["shard"], row["key"]) for row in kept] == [("1.tar", "001"), ("0.tar", "001")]
    assert selection.duplicates == 2


def test_the_comparison_of_a_large_pool_is_a_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage, plan = Storage(str(tmp_path)), plan_of(1)
    random = np.random.default_rng(0)
    clip, noise = random.standard_normal((2, 4000))
    write_part(
        storage,
        plan,
        0,
        [(f"{i:032x}", float(c), float(c + n)) for i, (c, n) in enumerate(zip(clip, noise, strict=True))],
    )
    whole = compare_with_clip_score(storage, plan, 1000)["random"]
    monkeypatch.setattr("coreset.selection.agreement.SAMPLED_ROWS", 1000)
    found = compare_with_clip_score(storage, plan, 1000)["random"]
    assert found != whole
    assert found.spearman_clip_score == pytest.approx(whole.spearman_clip_score, abs=0.06)
    assert found.overlap_clip_score == pytest.approx(whole.overlap_clip_score, abs=0.15)


def test_the_comparison_is_scipys_spearman_and_a_counted_overlap(stored: tuple[Storage, Plan, Rows]) -> None:
    storage, plan, rows = stored
    found = compare_with_clip_score(storage, plan, 30)
    _, clip, random = zip(*rows, strict=True)
    assert found["clip_score"].model_dump() == {"overlap_clip_score": 1.0, "spearman_clip_score": pytest.approx(1.0)}
    assert found["random"].spearman_clip_score == pytest.approx(spearmanr(clip, random).statistic)
    tops = [{r[0] for r in sorted(rows, key=lambda r: (-r[c], r[0]))[:30]} for c in (1, 2)]
    assert found["random"].overlap_clip_score == len(tops[0] & tops[1]) / 30


def test_a_constant_score_has_no_correlation(tmp_path: Path) -> None:
    storage, plan = Storage(str(tmp_path)), plan_of(1)
    write_part(storage, plan, 0, [(f"{i:032x}", 0.5, i / 4) for i in range(4)])
    assert compare_with_clip_score(storage, plan, 2)["random"].spearman_clip_score is None
