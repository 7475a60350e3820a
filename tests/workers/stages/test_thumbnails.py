"""A shard's thumbnails: one for every sample that has scores, found again by uid; the scores are the same bytes."""

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from coreset.schemas.manifest import ShardSummary
from coreset.schemas.part import SampleStatus
from coreset.schemas.plan import Plan
from coreset.storage.storage import Storage
from coreset.storage.thumbnails import read_thumbnails
from coreset_workers.data.loader import Loader
from coreset_workers.data.tar import ShardReader
from coreset_workers.data.thumbnail import thumbnail
from coreset_workers.outputs.kept import ShardOptions
from coreset_workers.stages.score import score_shard
from coreset_workers.stages.scorer import Scorer

Row = dict[str, Any]
Place = tuple[str, str, int]


@pytest.fixture(scope="module")
def with_thumbnails(plan: Plan, scorer: Scorer, loader: Loader, summaries: list[ShardSummary]) -> list[ShardSummary]:
    return [
        score_shard(scorer, loader, shard, lambda fraction: None, ShardOptions(thumbnails=True))
        for shard in plan.shards[:2]
    ]


def place(row: Row) -> Place:
    return row["uid"], row["shard"], row["row"]


def test_scores_do_not_depend_on_thumbnails(with_thumbnails: list[ShardSummary], summaries: list[ShardSummary]) -> None:
    assert [s.part.sha256 for s in with_thumbnails] == [s.part.sha256 for s in summaries[:2]]


def test_every_good_sample_has_the_thumbnail_of_its_image(
    results: Storage, plan: Plan, with_thumbnails: list[ShardSummary], rows: list[Row]
) -> None:
    shards = [Path(shard.uri) for shard in plan.shards[:2]]
    inside = [row for row in rows if row["shard"] in {path.name for path in shards}]
    found = read_thumbnails(results, plan, map(place, inside))
    assert found.keys() == {row["uid"] for row in inside if row["status"] == SampleStatus.OK}
    images = {(path.name, raw.row): raw.image() for path in shards for raw in ShardReader(str(path))}
    for row in inside:
        if row["uid"] in found:
            image = Image.open(io.BytesIO(images[row["shard"], row["row"]] or b"")).convert("RGB")
            assert found[row["uid"]] == thumbnail(image)


def test_a_shard_without_thumbnails_has_none(
    results: Storage, plan: Plan, with_thumbnails: list[ShardSummary], rows: list[Row]
) -> None:
    others = [row for row in rows if row["shard"] == Path(plan.shards[-1].uri).name]
    assert others
    assert read_thumbnails(results, plan, map(place, others)) == {}


def test_another_sample_in_the_same_place_has_none(
    results: Storage, plan: Plan, with_thumbnails: list[ShardSummary], good: list[Row]
) -> None:
    first = good[0]
    assert read_thumbnails(results, plan, [place(first)])
    assert read_thumbnails(results, plan, [("f" * 32, first["shard"], first["row"])]) == {}
