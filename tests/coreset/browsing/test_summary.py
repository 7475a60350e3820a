"""A job's summary and its changes against the same things counted in plain Python."""

import io
import random
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coreset.browsing import score_table as looking
from coreset.browsing.cut_diff import MAX_SHOWN, cut_diff
from coreset.browsing.group_counts import group_counts
from coreset.browsing.sample_pages import sample_page
from coreset.browsing.score_table import ScoreTable
from coreset.browsing.summary import SHEET, STEPS, summarize
from coreset.errors import InvalidInput
from coreset.queue.page_tokens import encode_values
from coreset.schemas.part import SampleStatus, part_schema
from coreset.schemas.plan import PlannedCheckpoint, Sourced
from coreset.schemas.sample import Order, SampleView
from coreset.schemas.summary import BINS, Summary
from coreset.selection.select import select
from coreset.spec.scores import Score
from coreset.spec.selection import SelectSpec
from coreset.storage.layout import JobFolder, PlanFolder
from coreset.storage.storage import Storage
from coreset.storage.thumbnails import SCHEMA
from coreset.uids import from_subset
from tests.coreset.selections import plan_of, write_summary

SHARDS, SAMPLES, K = 3, 240, 70
ONE = Sourced(value=1, source="test")
Row = dict[str, Any]


def checkpoint(index: int) -> PlannedCheckpoint:
    step = Sourced(value=10 * (index + 1), source="test")
    return PlannedCheckpoint(
        index=index, uri="c", size=1, sha256="", epoch=1, step=step, lr=ONE, lr_sum=ONE, optimizer=None
    )


PLAN = plan_of(
    SHARDS,
    checkpoints=[checkpoint(0), checkpoint(1)],
    scores=[Score.DIFFIN, Score.CLIP_SCORE, Score.RANDOM],
    part_version=1,
    metadata=[],
    clusters=0,
)


def a_row(shard: int, row: int, draw: random.Random) -> Row:
    clip = draw.gauss(0.2, 0.1)
    terms = [float(np.float32(draw.gauss(0, 1))), float(np.float32(clip))]
    return {
        "uid": f"{draw.getrandbits(128):032x}",
        "shard": f"{shard}.tar",
        "key": f"{row:04}",
        "row": row,
        "uid_source": "json",
        "status": "ok",
        "caption": f"<img src=x onerror=alert({row})>",
        "diffin": float(np.float32(sum(terms))),
        "clip_score": float(np.float32(clip)),
        "random": float(np.float32(draw.random())),
        "diffin_by_checkpoint": terms,
    }


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    draw = random.Random(0)
    return [a_row(shard, row, draw) for shard in range(SHARDS) for row in range(SAMPLES // SHARDS)]


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory, rows: list[Row]) -> Storage:
    storage = Storage(str(tmp_path_factory.mktemp("storage")))
    bad = {"uid": "b" * 32, "key": "bad", "row": 999, "uid_source": "json", "status": "bad_image"}
    for shard in range(SHARDS):
        own = [row for row in rows if row["shard"] == f"{shard}.tar"]
        part = pa.Table.from_pylist([*own, {**bad, "shard": f"{shard}.tar"}], part_schema(PLAN))
        images = pa.Table.from_pylist([{**row, "image": row["uid"].encode()} for row in own], SCHEMA)
        name = PlanFolder(PLAN.id).part(shard)
        file = storage.write_with(name, lambda file, part=part: pq.write_table(part, file), len(part))
        write_summary(storage, PLAN, shard, file)
        if shard:
            storage.write_with(
                PlanFolder(PLAN.id).thumbnails(shard), lambda file, images=images: pq.write_table(images, file)
            )
    return storage


@pytest.fixture(scope="module")
def look(storage: Storage) -> Iterator[ScoreTable]:
    selection = select(storage, PLAN, "job", SelectSpec(k=K))
    with ScoreTable(storage, PLAN, selection) as look:
        yield look


@pytest.fixture(scope="module")
def summary(look: ScoreTable) -> Summary:
    return summarize(look)


def best(rows: list[Row], score: str, k: int) -> list[str]:
    return [row["uid"] for row in sorted(rows, key=lambda row: (-row[score], row["uid"]))][:k]


@pytest.fixture(scope="module")
def kept(storage: Storage, look: ScoreTable) -> set[str]:
    file = storage.read(JobFolder("job").selection(look.selection.id).uids)
    return set(from_subset(np.load(io.BytesIO(file))))


def test_every_hundredth_and_the_selections_k_have_their_cuts(summary: Summary, rows: list[Row]) -> None:
    assert K in summary.ks
    assert summary.ks == sorted({round(SAMPLES * step / STEPS) for step in range(1, STEPS + 1)} | {K})
    for score in ("diffin", "clip_score", "random"):
        values = sorted((row[score] for row in rows), reverse=True)
        assert summary.cuts[Score(score)] == [values[k - 1] for k in summary.ks]


def test_overlaps_are_counted(summary: Summary, rows: list[Row], kept: set[str]) -> None:
    names = [ranking.name for ranking in summary.rankings]
    assert names == ["diffin", "clip_score", "random", "selection"]
    for (one, other), shared in zip(combinations(names, 2), summary.overlaps, strict=True):
        for k, count in zip(summary.ks, shared, strict=True):
            if other != "selection":
                assert count == len(set(best(rows, one, k)) & set(best(rows, other, k)))
            elif k == K:
                assert count == len(set(best(rows, one, k)) & kept)


def test_histograms_and_densities_count_every_sample_once(summary: Summary, rows: list[Row], kept: set[str]) -> None:
    for score, histogram in summary.histograms.items():
        low, wide = histogram.axis.low, (histogram.axis.high - histogram.axis.low) / BINS
        bins = {row["uid"]: min(max(int((row[score] - low) // wide), 0), BINS - 1) for row in rows}
        assert histogram.counts == [list(bins.values()).count(place) for place in range(BINS)]
        assert histogram.kept == [sum(bins[uid] == place for uid in kept) for place in range(BINS)]
    assert [(density.across, density.up) for density in summary.densities] == [(Score.CLIP_SCORE, Score.DIFFIN)]
    assert sum(count for _, _, count in summary.densities[0].cells) == SAMPLES


def test_sheets_show_the_extremes_and_the_disagreements(summary: Summary, rows: list[Row]) -> None:
    sheets = {sheet.name: [sample.uid for sample in sheet.samples] for sheet in summary.sheets}
    assert sheets["highest_diffin"] == best(rows, "diffin", SHEET)
    assert sheets["lowest_clip_score"] == best(rows, "clip_score", SAMPLES)[: -SHEET - 1 : -1]
    places = {score: {uid: i for i, uid in enumerate(best(rows, score, SAMPLES))} for score in ("diffin", "clip_score")}
    only = [uid for uid, place in places["diffin"].items() if place < K <= places["clip_score"][uid]]
    only.sort(key=lambda uid: (places["diffin"][uid] - places["clip_score"][uid], uid))
    assert sheets["diffin_not_clip_score"] == only[:SHEET]
    assert set(sheets["clip_score_not_diffin"]) <= set(best(rows, "clip_score", K)) - set(best(rows, "diffin", K))


def test_a_sample_is_told_whole_with_its_thumbnail_where_there_is_one(
    summary: Summary, rows: list[Row], kept: set[str]
) -> None:
    by_uid = {row["uid"]: row for row in rows}
    seen = [sample for sheet in summary.sheets for sample in sheet.samples]
    assert {sample.thumbnail is None for sample in seen} == {True, False}
    for sample in seen:
        row = by_uid[sample.uid]
        assert (sample.shard, sample.key, sample.row, sample.caption) == tuple(
            row[name] for name in ("shard", "key", "row", "caption")
        )
        assert sample.uri == f"/pool/{sample.shard}"
        assert sample.scores == {score: row[score.value] for score in PLAN.scores}
        assert sample.by_checkpoint == {Score.DIFFIN: row["diffin_by_checkpoint"]}
        assert sample.kept == (sample.uid in kept)
        assert (sample.thumbnail is None) == (sample.shard == "0.tar")


@pytest.mark.parametrize(("k", "by"), [(K, "selection"), (K + 40, "selection"), (20, "selection"), (K, "clip_score")])
def test_changes_are_what_enters_and_leaves(look: ScoreTable, rows: list[Row], kept: set[str], k: int, by: str) -> None:
    found = cut_diff(look, k, by)
    if by == "selection":
        assert (found.entering, found.leaving) == (max(k - K, 0), max(K - k, 0))
    else:
        now = best(rows, by, k)
        enter = [uid for uid in reversed(now) if uid not in kept]
        leave = [uid for uid in best(rows, by, SAMPLES)[k:] if uid in kept]
        assert (found.entering, found.leaving) == (len(enter), len(leave))
        assert [sample.uid for sample in found.enter] == enter[:MAX_SHOWN]
        assert [sample.uid for sample in found.leave] == leave[:MAX_SHOWN]


@pytest.mark.parametrize("k", [1, K - 1, K + 1, SAMPLES])
def test_changes_tell_cuts_and_overlaps_at_any_k(look: ScoreTable, rows: list[Row], k: int) -> None:
    found = cut_diff(look, k, "selection")
    assert found.cuts == {
        score: sorted((row[score.value] for row in rows), reverse=True)[k - 1] for score in PLAN.scores
    }
    names = ["diffin", "clip_score", "random"]
    pairs = dict(zip(combinations([*names, "selection"], 2), found.overlaps, strict=True))
    for pair in combinations(names, 2):
        assert pairs[pair] == len(set.intersection(*(set(best(rows, name, k)) for name in pair)))


def test_changes_agree_with_the_summary_where_that_has_the_k(look: ScoreTable, summary: Summary) -> None:
    for place in (0, 30, len(summary.ks) - 1):
        found = cut_diff(look, summary.ks[place], "diffin")
        assert found.cuts == {score: values[place] for score, values in summary.cuts.items()}
        assert found.overlaps == [counts[place] for counts in summary.overlaps]


def test_an_unknown_ranking_is_refused_and_never_reaches_the_query(look: ScoreTable) -> None:
    with pytest.raises(InvalidInput, match="unknown ranking"):
        cut_diff(look, 5, "uid; DROP TABLE looked")


def test_a_pool_that_is_too_large_is_drawn_from(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "MAX_ROWS", SAMPLES // 2)
    with ScoreTable(storage, PLAN, select(storage, PLAN, "job", SelectSpec(k=K))) as look:
        summary = summarize(look)
        assert 0.3 * SAMPLES < summary.looked < 0.7 * SAMPLES
        assert summary.rankable == SAMPLES
        assert sum(summary.histograms[Score.RANDOM].counts) == summary.looked
        exact = sorted((row[0] for row in look.query("SELECT random FROM score_table")), reverse=True)
        assert summary.cuts[Score.RANDOM][0] == exact[0]
        assert summary.cuts[Score.RANDOM][-1] == exact[-1]


def all_pages(storage: Storage, look: ScoreTable, order: Order, size: int) -> list[SampleView]:
    found: list[SampleView] = []
    token = None
    while True:
        page = sample_page(storage, PLAN, look.selection, order, size, token)
        assert len(page.samples) <= size
        found += page.samples
        if (token := page.next_page_token) is None:
            return found


@pytest.mark.parametrize("size", [pytest.param(7, marks=pytest.mark.slow), 100, SAMPLES])
def test_pages_go_through_all_samples_in_order(
    storage: Storage, look: ScoreTable, rows: list[Row], kept: set[str], size: int
) -> None:
    found = all_pages(storage, look, Order(by=Score.CLIP_SCORE), size)
    assert [sample.uid for sample in found] == best(rows, "clip_score", SAMPLES)
    assert {sample.uid for sample in found if sample.kept} == kept
    lowest = all_pages(storage, look, Order(by=Score.DIFFIN, ascending=True), size)
    assert [sample.scores[Score.DIFFIN] for sample in lowest] == sorted(row["diffin"] for row in rows)
    assert [sample.uid for sample in all_pages(storage, look, Order(), size)] == sorted(row["uid"] for row in rows)


@pytest.mark.parametrize("size", [3, 100])
def test_pages_of_a_caption_have_all_that_contain_it_in_any_case(
    storage: Storage, look: ScoreTable, rows: list[Row], size: int
) -> None:
    order = Order(by=Score.CLIP_SCORE, caption="ALERT(1")
    having = {row["uid"] for row in rows if "alert(1" in row["caption"]}
    wanted = [uid for uid in best(rows, "clip_score", SAMPLES) if uid in having]
    assert 0 < len(wanted) < SAMPLES
    assert [sample.uid for sample in all_pages(storage, look, order, size)] == wanted
    assert all_pages(storage, look, Order(caption="%"), size) == []


def test_groups_count_scored_and_kept_samples(
    storage: Storage, look: ScoreTable, rows: list[Row], kept: set[str]
) -> None:
    found = group_counts(storage, PLAN, look.selection, "shard")
    assert (found.fields, found.total) == (["shard"], SHARDS)
    for group in found.groups:
        own = [row for row in rows if row["shard"] == group.value]
        assert (group.samples, group.kept) == (len(own), len(kept & {row["uid"] for row in own}))
        assert group.example == max(own, key=lambda row: row["clip_score"])["caption"]
    with pytest.raises(InvalidInput, match="unknown field 'cluster'; expected one of shard"):
        group_counts(storage, PLAN, look.selection, "cluster")


def test_samples_that_are_equal_in_all_come_once_each(storage: Storage, look: ScoreTable) -> None:
    bad = all_pages(storage, look, Order(status=SampleStatus.BAD_IMAGE), 1)
    assert [(sample.uid, sample.shard, sample.status) for sample in bad] == [
        ("b" * 32, f"{shard}.tar", SampleStatus.BAD_IMAGE) for shard in range(SHARDS)
    ]
    assert all(sample.scores == {} and sample.by_checkpoint == {} for sample in bad)
    assert all_pages(storage, look, Order(status=SampleStatus.NO_IMAGE), 5) == []


@pytest.mark.parametrize(
    ("order", "token"),
    [
        (Order(by=Score.LOSS), None),
        (Order(by=Score.DIFFIN, status=SampleStatus.BAD_IMAGE), None),
        (Order(), "x"),
        (Order(), encode_values([1, 2], f"{PLAN.id}/{Order().model_dump_json()}")),
        (Order(), encode_values(["a", "b", "c"], f"{PLAN.id}/{Order().model_dump_json()}")),
        (Order(), encode_values([0.5, "u", 3], "another question")),
    ],
)
def test_a_wrong_order_or_token_is_refused(storage: Storage, look: ScoreTable, order: Order, token: str | None) -> None:
    with pytest.raises(InvalidInput):
        sample_page(storage, PLAN, look.selection, order, 5, token)
