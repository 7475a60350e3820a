"""What the target is made of: its samples by cluster, by the model that makes CLIP score."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from coreset.schemas.plan import PlannedModel
from coreset.spec.job import JobSpec
from coreset.storage.storage import Storage
from coreset.storage.target_clusters import target_clusters
from coreset_workers.data.loader import Loader
from coreset_workers.model.inputs import views
from coreset_workers.outputs.parts import part_path
from coreset_workers.stages.plan import make_plan
from coreset_workers.stages.prepare import prepare_plan
from coreset_workers.stages.score import score_shard
from coreset_workers.stages.scorer import Scorer

CPU = torch.device("cpu")


@pytest.mark.parametrize("own_clip_model", [False, True])
def test_the_samples_of_a_target_that_is_the_pool_have_the_clusters_of_the_pool(
    scored_spec: JobSpec, tiny_run: Path, tiny_pool: Path, tmp_path: Path, own_clip_model: bool
) -> None:
    pool = {"shards": [str(tiny_pool / "000000.tar")]}
    fields = {"pool": pool, "target": {"pool": pool, "size": 1000}, "scores": ["clip_score"], "clusters": 5}
    spec = scored_spec.model_dump() | {"select": {"k": 4, "by": "clip_score"}} | fields
    plan, _ = make_plan(JobSpec.model_validate(spec))
    if own_clip_model:
        own = PlannedModel.model_validate({**plan.model.model_dump(), "name": "other"})
        weights = str(tiny_run / "checkpoints" / "epoch_1.pt")
        plan = plan.model_copy(update={"clip_model": own, "clip_pretrained": weights})
    storage, loader = Storage(str(tmp_path / "results")), Loader(views(plan), None, processes=0)
    prepare_plan(plan, storage, loader, CPU, lambda stage, fraction: None)
    score_shard(Scorer(plan, storage, CPU), loader, plan.shards[0], lambda fraction: None)
    part = pq.read_table(storage.path(part_path(plan, 0))).to_pylist()
    clusters = [row["cluster"] for row in part if row["status"] == "ok"]
    assert target_clusters(storage, plan) == [clusters.count(c) for c in range(5)]
    assert max(target_clusters(storage, plan)) < len(clusters)


def test_a_target_that_is_the_training_is_not_looked_at(results: Storage, scorer: Scorer) -> None:
    assert scorer.plan.target == "training"
    assert target_clusters(results, scorer.plan) == []
