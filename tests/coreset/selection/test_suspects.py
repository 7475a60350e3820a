"""Suspects are what a selection leaves out, in its order turned around, and come first among what people look at."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coreset.browsing.score_table import Look
from coreset.browsing.summary import SUSPECTS_SHOWN, Sheet, summarize
from coreset.schemas.manifest import SUSPECTS
from coreset.schemas.plan import Plan
from coreset.selection.select import select
from coreset.spec.cleaning import CleanSpec
from coreset.spec.scores import Score
from coreset.storage.storage import Storage
from tests.coreset.selections import Row, mean_ranks, plan_of, write_parts

PLAN = plan_of(2, clusters=0, metadata=[])
ROWS = 1025
"""Their ranks, parts of 1024, have no rounding, so equal values are equal."""
COLUMNS = ["uid", "shard", "key", "caption", "rank", "value", "clip_score", "random"]


def a_row(uid: int, clip_score: float, random: float) -> Row:
    return {"uid": f"{uid:032x}", "caption": f"number {uid}", "clip_score": clip_score, "random": random}


values = st.integers(-8, 8).map(lambda n: n / 8)
rows_of_a_shard = st.lists(st.builds(a_row, st.integers(0, 30), values, values), min_size=1, max_size=25)


@given(st.tuples(rows_of_a_shard, rows_of_a_shard), st.floats(0.01, 0.99), st.sampled_from([1, -1]))
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_kept_and_suspects_are_everything_once(
    tmp_path_factory: pytest.TempPathFactory, shards: tuple[list[Row], list[Row]], fraction: float, weight: int
) -> None:
    storage = Storage(str(tmp_path_factory.mktemp("storage")))
    rows = write_parts(storage, PLAN, shards)
    spec = CleanSpec(fraction=fraction, by={Score.CLIP_SCORE: 1, Score.RANDOM: weight})
    found = select(storage, PLAN, "job", spec.rest, suspects=True)
    kept, suspects = (pq.read_table(found.files[name].uri) for name in ("subset.parquet", SUSPECTS))
    every = select(storage, PLAN, "other", spec.rest.model_copy(update={"fraction": 1.0}))
    order = pq.read_table(every.files["subset.parquet"].uri)["uid"].to_pylist()
    assert kept["uid"].to_pylist() + suspects["uid"].to_pylist()[::-1] == order
    assert len(order) == len({row["uid"] for row in rows})
    assert suspects.column_names == COLUMNS
    assert suspects["rank"].to_pylist() == list(range(1, len(suspects) + 1))
    assert found.files[SUSPECTS].rows == len(suspects) == found.rankable - found.k
    assert suspects["value"].to_pylist() == sorted(suspects["value"].to_pylist())
    held = {(row["uid"], row["shard"], row["key"], row["caption"], row["clip_score"], row["random"]) for row in rows}
    places = ("uid", "shard", "key", "caption", "clip_score", "random")
    assert {tuple(row[name] for name in places) for row in suspects.to_pylist()} <= held


@pytest.fixture
def rows() -> list[Row]:
    draws = np.random.default_rng(0)
    return [a_row(i, *np.float32(draws.normal(size=2)).tolist()) for i in range(ROWS)]


@pytest.fixture
def stored(storage: Storage, rows: list[Row]) -> Storage:
    write_parts(storage, PLAN, [rows[:500], rows[500:]])
    return storage


def sheets_of(storage: Storage, plan: Plan, spec: CleanSpec, suspects: bool) -> list[Sheet]:
    with Look(storage, plan, select(storage, plan, "job", spec.rest, suspects)) as look:
        return summarize(look).sheets


def test_the_first_sheet_shows_the_worst_and_why(stored: Storage, rows: list[Row]) -> None:
    spec = CleanSpec(fraction=0.1, by={Score.CLIP_SCORE: 1, Score.RANDOM: -1})
    sheet = sheets_of(stored, PLAN, spec, suspects=True)[0]
    ranks = [mean_ranks([row[name] for row in rows]) for name in ("clip_score", "random")]
    value = {row["uid"]: clip - random for row, clip, random in zip(rows, *ranks, strict=True)}
    worst = sorted(sorted(value, reverse=True), key=value.__getitem__)
    assert [sample.uid for sample in sheet.samples] == worst[:SUSPECTS_SHOWN]
    assert not any(sample.kept for sample in sheet.samples)
    for sample, reason in zip(sheet.samples, sheet.reasons, strict=True):
        lower = sum(row["clip_score"] <= sample.scores[Score.CLIP_SCORE] for row in rows) / ROWS
        higher = sum(row["random"] >= sample.scores[Score.RANDOM] for row in rows) / ROWS
        assert reason == f"CLIP score: lowest {100 * lower:.3g} %, Random: highest {100 * higher:.3g} %"


def test_other_jobs_have_no_such_sheet_and_no_such_file(stored: Storage) -> None:
    spec = CleanSpec(fraction=0.1, by={Score.CLIP_SCORE: 1})
    assert SUSPECTS not in select(stored, PLAN, "job", spec.rest).files
    assert "suspects" not in [sheet.name for sheet in sheets_of(stored, PLAN, spec, suspects=False)]
