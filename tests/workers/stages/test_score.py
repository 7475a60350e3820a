"""A shard's part: every sample is in it, whatever shard it came in, and damage leaves no half part."""

import hashlib
import io
import math
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from coreset.errors import ShardUnreadable
from coreset.schemas.manifest import ShardSummary
from coreset.schemas.part import SampleStatus, UidSource, part_schema
from coreset.schemas.plan import Plan, PlannedShard
from coreset.spec.scores import ESTIMATORS, Score
from coreset.storage.layout import PlanFolder
from coreset.storage.plan_files import load_summary
from coreset.storage.storage import Storage
from coreset_workers.data.decode import Sample
from coreset_workers.data.loader import Loader
from coreset_workers.influence import prepared_files as prepared
from coreset_workers.influence.clusters import load_centroids, nearest
from coreset_workers.outputs.parts import find_part, part_table
from coreset_workers.stages.score import score_shard
from coreset_workers.stages.scorer import Scorer
from demo.plan import Defect, defect_counts

Row = dict[str, Any]
Members = list[tuple[str, bytes]]
SAMPLES = 180


def quietly(fraction: float) -> None:
    """Nobody wants to know how far it is."""


def test_a_parts_schema_is_the_one_that_coreset_promises(plan: Plan, parts: list[pa.Table]) -> None:
    expected = part_schema(plan)
    assert all(part.schema.equals(expected) for part in parts)
    assert expected.field("diffin_by_checkpoint").type == pa.list_(pa.float32(), 2)


def test_every_sample_of_the_pool_has_a_row_in_the_order_of_its_tar(tiny_pool: Path, parts: list[pa.Table]) -> None:
    for path, part in zip(sorted(tiny_pool.glob("*.tar")), parts, strict=True):
        with tarfile.open(path) as tar:
            keys = list(dict.fromkeys(name.split(".")[0] for name in tar.getnames()))
        assert part["key"].to_pylist() == keys
        assert part["row"].to_pylist() == list(range(len(keys)))
        assert set(part["shard"].to_pylist()) == {path.name}


def test_bad_samples_have_their_reason_and_no_scores(plan: Plan, rows: list[Row]) -> None:
    counts = Counter(row["status"] for row in rows)
    defects = defect_counts(SAMPLES)
    assert counts == {
        SampleStatus.OK: SAMPLES - sum(defects[d] for d in (Defect.IMAGELESS, Defect.EMPTY, Defect.BROKEN)),
        SampleStatus.NO_IMAGE: defects[Defect.IMAGELESS],
        SampleStatus.EMPTY_CAPTION: defects[Defect.EMPTY],
        SampleStatus.BAD_IMAGE: defects[Defect.BROKEN],
    }
    names = [*plan.scores, *(f"{score}_by_checkpoint" for score in ESTIMATORS)]
    for row in rows:
        missing = [row[name] is None for name in names]
        assert all(missing) if row["status"] != SampleStatus.OK else not any(missing)


def test_a_part_holds_the_images_size_and_the_json_fields_that_the_spec_names(
    tiny_pool: Path, rows: list[Row], good: list[Row]
) -> None:
    images = {key: dict(members)[f"{key}.jpg"] for key, members in by_key(tiny_pool).items() if key in keys_of(good)}
    sizes = {key: Image.open(io.BytesIO(image)).size for key, image in images.items()}
    assert {row["key"]: (row["image_width"], row["image_height"]) for row in good} == sizes
    assert {row["image_width"] for row in rows if row["status"] == "no_image"} == {None}
    assert [row["metadata_uid"] for row in rows] == [row["uid"] for row in rows]
    assert {row["metadata_nothing"] for row in rows} == {None}


def test_every_good_sample_has_the_cluster_of_the_nearest_centroid(
    plan: Plan, results: Storage, good: list[Row], rows: list[Row]
) -> None:
    assert plan.clusters == 24 // 8
    counts = Counter(row["cluster"] for row in good)
    assert counts.keys() <= {0, 1, 2}
    assert len(counts) > 1
    assert {row["cluster"] for row in rows if row["status"] != SampleStatus.OK} == {None}
    centroids = load_centroids(results, plan)
    torch.testing.assert_close(centroids.norm(dim=1), torch.ones(3, dtype=torch.float64))
    members = prepared.load_checkpoint(results, plan, 1, torch.device("cpu")).contexts
    images = members[prepared.load_stencil(results, plan, 1).points.index(())].image
    uids = prepared.load_preparation(results, plan).reference_uids
    expected = dict(zip(uids, nearest(images, centroids).tolist(), strict=True))
    found = {row["uid"]: row["cluster"] for row in good if row["uid"] in expected}
    assert len(found) == 24
    assert found == expected


def test_a_plan_of_older_parts_goes_on_with_their_columns(plan: Plan) -> None:
    older = plan.model_copy(update={"part_version": 1, "metadata": [], "clusters": 0})
    sample = Sample("a", UidSource.DERIVED, "a", 0, SampleStatus.NO_IMAGE, "red", {"nothing": "x"}, (3, 4))
    table = part_table(older, "0.tar", [sample], [], {})
    first = ["uid", "shard", "key", "row", "uid_source", "status", "caption", plan.scores[0]]
    assert table.schema.names[: len(first)] == first


def test_the_summary_counts_the_part_and_names_its_bytes(
    results: Storage, plan: Plan, summaries: list[ShardSummary], parts: list[pa.Table]
) -> None:
    for shard, summary, part in zip(plan.shards, summaries, parts, strict=True):
        assert summary.read == summary.part.rows == len(part) == 30
        assert summary.scored + sum(summary.bad.values()) == summary.read
        written = Path(summary.part.uri).read_bytes()
        assert (summary.part.size, summary.part.sha256) == (len(written), hashlib.sha256(written).hexdigest())
        assert load_summary(results, plan.id, shard.index) == summary


def test_scoring_a_shard_again_gives_the_same_bytes(
    results: Storage, plan: Plan, scorer: Scorer, loader: Loader, summaries: list[ShardSummary]
) -> None:
    fresh = Scorer(plan, results, scorer.device)
    again = score_shard(fresh, loader, replaced(plan.shards[3], index=103), quietly)
    assert again.part.sha256 == summaries[3].part.sha256


def keys_of(rows: list[Row]) -> set[str]:
    return {row["key"] for row in rows}


def by_key(pool: Path) -> dict[str, Members]:
    found: dict[str, Members] = {}
    for path in sorted(pool.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                found.setdefault(member.name.split(".")[0], []).append((member.name, tar.extractfile(member).read()))
    return found


def write_tar(path: Path, members: Members) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))


def shard_at(path: Path, index: int) -> PlannedShard:
    return PlannedShard(index=index, uri=str(path), size=path.stat().st_size)


def replaced(shard: PlannedShard, **fields: Any) -> PlannedShard:
    return shard.model_copy(update=fields)


@pytest.mark.parametrize("members", [[], [("a.txt", b"a"), ("b.txt", b"b")]], ids=["empty", "all bad"])
def test_a_shard_without_good_samples_has_a_part_too(
    tmp_path: Path, plan: Plan, results: Storage, scorer: Scorer, loader: Loader, members: Members
) -> None:
    write_tar(tmp_path / "0.tar", members)
    summary = score_shard(scorer, loader, shard_at(tmp_path / "0.tar", 105), quietly)
    part = pq.read_table(results.path(PlanFolder(plan.id).part(105)))
    assert part.schema.equals(part_schema(plan))
    assert part["status"].to_pylist() == ["no_image"] * len(members)
    assert (summary.read, summary.scored) == (len(members), 0)
    assert summary.bad == ({"no_image": len(members)} if members else {})


def test_a_cut_off_shard_is_scored_up_to_the_damage(
    tmp_path: Path, tiny_pool: Path, plan: Plan, scorer: Scorer, loader: Loader, summaries: list[ShardSummary]
) -> None:
    whole = (tiny_pool / "000000.tar").read_bytes()
    (tmp_path / "000000.tar").write_bytes(whole[: len(whole) // 2 - 100])
    shard = replaced(shard_at(tmp_path / "000000.tar", 106), expected=30, expected_source="stats.json")
    summary = score_shard(scorer, loader, shard, quietly)
    assert 0 < summary.scored < summaries[0].scored
    assert summary.read == summary.scored + sum(summary.bad.values())
    assert (summary.expected, str(summary.damage)[:22]) == (30, "cut off or damaged aft")


def test_what_is_no_tar_has_no_part(
    tmp_path: Path, plan: Plan, results: Storage, scorer: Scorer, loader: Loader
) -> None:
    (tmp_path / "0.tar").write_bytes(b"noise" * 1000)
    with pytest.raises(ShardUnreadable, match="is not a tar file"):
        score_shard(scorer, loader, shard_at(tmp_path / "0.tar", 107), quietly)
    assert not results.exists(PlanFolder(plan.id).part(107))
    assert find_part(results, plan, 107) is None


class Stop(Exception):
    """What a beat raises."""


def test_a_beat_that_raises_leaves_no_part(
    plan: Plan, results: Storage, scorer: Scorer, loader: Loader, summaries: list[ShardSummary]
) -> None:
    reported: list[float] = []

    def stop_late(fraction: float) -> None:
        reported.append(fraction)
        if fraction > 0.6:
            raise Stop

    with pytest.raises(Stop):
        score_shard(scorer, loader, replaced(plan.shards[0], index=108), stop_late)
    assert reported == sorted(reported)
    assert reported[0] > 0
    assert not results.exists(PlanFolder(plan.id).part(108))
    assert find_part(results, plan, 108) is None


def test_a_score_that_is_not_finite_makes_its_sample_bad(plan: Plan) -> None:
    samples = [
        Sample(uid, UidSource.DERIVED, uid, row, status, "red")
        for row, (uid, status) in enumerate([("a", "ok"), ("b", "no_image"), ("c", "ok"), ("d", "ok"), ("e", "ok")])
        for status in [SampleStatus(status)]
    ]
    values = torch.tensor([1.0, math.nan, 2.0, 1e39], dtype=torch.float64)  # the last is none of float32's numbers
    columns = {score.value: values for score in plan.scores if score is not Score.RANDOM}
    columns |= {f"{score}_by_checkpoint": torch.ones(4, 2) for score in ESTIMATORS}
    table = part_table(plan, "0.tar", samples, [0, 2, 3, 4], columns)
    assert table["status"].to_pylist() == ["ok", "no_image", "non_finite", "ok", "non_finite"]
    assert table["clip_score"].to_pylist() == [1, None, None, 2, None]
    assert table["random"].to_pylist()[2] is None


def test_what_does_not_fit_in_memory_is_read_for_each_block_with_the_same_outcome(
    plan: Plan,
    results: Storage,
    scorer: Scorer,
    loader: Loader,
    summaries: list[ShardSummary],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("coreset_workers.stages.scorer.held_bytes", lambda device: 0)
    poor = Scorer(plan, results, scorer.device)
    again = score_shard(poor, loader, replaced(plan.shards[1], index=109), quietly)
    assert again.part.sha256 == summaries[1].part.sha256
    assert poor._held == {}
