"""Several captions of an image as rows of a part: the best by the rule is selected, and written with its uid."""

import json
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from coreset.schemas.plan import Plan
from coreset.selection.select import count_samples, select
from coreset.spec.pool import Captions, PoolSpec
from coreset.spec.scores import Score
from coreset.spec.selection import SelectSpec
from coreset.storage.layout import PlanFolder
from coreset.storage.storage import Storage
from coreset.storage.thumbnails import read_thumbnails
from coreset_workers.data.listing import list_shards
from coreset_workers.data.loader import Loader
from coreset_workers.data.shards import open_shard
from coreset_workers.outputs.parts import part_table
from coreset_workers.outputs.shards import write_shards
from coreset_workers.outputs.thumbnails import write_thumbnails
from tests.coreset.selections import plan_of, write_summary
from tests.field.pools import jpeg, write_tar
from tests.fuzz.shards import VIEWS

IMAGES = 6
BEST = 2
"""Position of the caption with the highest score."""


def scored(storage: Storage, folder: Path, mode: Captions) -> Plan:
    """Write the part of a pool of six images with four captions each; the score is highest at BEST."""
    named = [
        (f"{i}.{ext}", content)
        for i in range(IMAGES)
        for ext, content in [("jpg", jpeg(i)), *((f"{c}.txt", f"{i} caption {c}".encode()) for c in range(4))]
    ]
    write_tar(folder / "a.tar", named)
    shards = list_shards(PoolSpec(shards=[str(folder / "a.tar")]))
    plan = plan_of(0, scores=[Score.CLIP_SCORE], metadata=[], clusters=0)
    plan = plan.model_copy(update={"shards": shards, "captions": mode})
    loader = Loader({name: lambda view=view: view for name, view in VIEWS.items()}, None, 0, captions=mode)
    samples = list(loader.decode(open_shard(shards[0]), thumbnails=True))
    values = [float(sample.caption_index == BEST) + sample.row / 100 for sample in samples]
    table = part_table(plan, "a.tar", samples, list(range(len(samples))), {"clip_score": torch.tensor(values)})
    part = storage.write_with(PlanFolder(plan.id).part(0), lambda file: pq.write_table(table, file))
    write_summary(storage, plan, 0, part)
    write_thumbnails(storage, plan, 0, samples)
    return plan


def test_the_best_caption_of_each_image_is_kept_and_written(storage: Storage, tmp_path: Path) -> None:
    plan = scored(storage, tmp_path, "best")
    assert (count_samples(storage, plan), count_samples(storage, plan, pairs=True)) == (IMAGES, 4 * IMAGES)
    found = select(storage, plan, "job", SelectSpec(k=IMAGES, by={Score.CLIP_SCORE: 1.0}))
    rows = pq.read_table(found.files["subset.parquet"].uri).to_pylist()
    assert [(row["caption"], row["caption_index"]) for row in rows] == [
        (f"{i} caption {BEST}", BEST) for i in reversed(range(IMAGES))
    ]
    files = write_shards(storage, plan, found, lambda share: None)
    with tarfile.open(files["shards/00000000.tar"].uri) as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    for row in rows:
        assert members[f"{row['uid']}.txt"].decode() == row["caption"]
        assert json.loads(members[f"{row['uid']}.json"]) == {"uid": row["uid"]}
    assert len(members) == 3 * IMAGES


def test_by_all_every_pair_is_selected_by_itself(storage: Storage, tmp_path: Path) -> None:
    plan = scored(storage, tmp_path, "all")
    found = select(storage, plan, "job", SelectSpec(k=2 * IMAGES, by={Score.CLIP_SCORE: 1.0}))
    rows = pq.read_table(found.files["subset.parquet"].uri).to_pylist()
    assert len({row["uid"] for row in rows}) == 2 * IMAGES
    assert found.duplicates == 0
    assert {row["caption_index"] for row in rows[:IMAGES]} == {BEST}
    assert len(write_shards(storage, plan, found, lambda share: None)) == 5
    thumbnails = read_thumbnails(storage, plan, [(row["uid"], "a.tar", int(row["key"])) for row in rows])
    assert len(thumbnails) == 2 * IMAGES


@pytest.mark.parametrize("mode", [None, "first"])
def test_parts_of_one_caption_have_no_further_column(mode: Captions | None) -> None:
    plan = plan_of(1).model_copy(update={"captions": mode})
    assert "caption_index" not in plan.subset_columns
    assert (plan.id == plan_of(1).id) == (mode is None)
