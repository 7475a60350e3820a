"""CLIP scores by another checkpoint of the run than the last: `clip_model.checkpoint`."""

import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from pydantic import ValidationError

from coreset.errors import InvalidSpec
from coreset.schemas.plan import Plan
from coreset.spec.job import JobSpec
from coreset.storage.layout import PlanFolder
from coreset.storage.storage import Storage
from coreset_workers.data.loader import Loader
from coreset_workers.model.inputs import views
from coreset_workers.stages.plan import make_plan
from coreset_workers.stages.prepare import prepare_plan
from coreset_workers.stages.score import score_shard
from coreset_workers.stages.scorer import Scorer

CPU = torch.device("cpu")


def planned(tiny_pool: Path, checkpoints: Any, **changes: Any) -> Plan:
    spec = {
        "pool": {"shards": [str(tiny_pool / "000001.tar")]},
        "checkpoints": checkpoints,
        "reference": {"size": 8},
        "scores": ["clip_score"],
        "select": {"k": 3, "by": "clip_score"},
    }
    return make_plan(JobSpec.model_validate(spec | changes))[0]


def clip_scores(plan: Plan, storage: Storage) -> list[float | None]:
    loader = Loader(views(plan), plan.caption_field, processes=0)
    prepare_plan(plan, storage, loader, CPU, lambda stage, fraction: None)
    score_shard(Scorer(plan, storage, CPU), loader, plan.shards[0], lambda fraction: None)
    return pq.read_table(storage.path(PlanFolder(plan.id).part(0)))["clip_score"].to_pylist()


def test_the_scores_are_those_of_a_run_that_ends_at_that_checkpoint(
    tiny_pool: Path, tiny_run: Path, storage: Storage, tmp_path: Path
) -> None:
    run = {"run": str(tiny_run)}
    last = planned(tiny_pool, run)
    first = int(last.checkpoints[0].step.value)
    earlier = planned(tiny_pool, run, clip_model={"checkpoint": first})
    shutil.copytree(tiny_run, tmp_path / "run", ignore=shutil.ignore_patterns("epoch_2.pt"))
    alone = planned(tiny_pool, {"run": str(tmp_path / "run")})
    assert len(last.checkpoints) == 2
    assert earlier.id != last.id
    assert clip_scores(earlier, storage) == clip_scores(alone, storage) != clip_scores(last, storage)


def test_the_last_checkpoint_is_the_default_under_the_same_plan(tiny_pool: Path, tiny_run: Path) -> None:
    run = {"run": str(tiny_run)}
    last = planned(tiny_pool, run)
    end = int(last.checkpoints[-1].step.value)
    assert planned(tiny_pool, run, clip_model={"checkpoint": "last"}).id == last.id
    assert planned(tiny_pool, run, clip_model={"checkpoint": end}).id == last.id
    assert "clip_checkpoint" not in last.model_dump_json()


def test_the_horizon_is_a_checkpoint_of_jobs_that_trace_influence(tiny_pool: Path, tiny_run: Path) -> None:
    run = {"run": str(tiny_run)}
    first = int(planned(tiny_pool, run).checkpoints[0].step.value)
    traced = {"scores": ["tracin", "clip_score"], "clip_model": {"checkpoint": "horizon"}}
    assert planned(tiny_pool, {**run, "horizon": first}, **traced).clip_checkpoint == "horizon"
    assert planned(tiny_pool, run, **traced).clip_checkpoint is None  # the training is the target: the last one
    with pytest.raises(InvalidSpec, match="this job traces none"):
        planned(tiny_pool, run, clip_model={"checkpoint": "horizon"})
    with pytest.raises(InvalidSpec, match="no checkpoint has that step"):
        planned(tiny_pool, run, clip_model={"checkpoint": 999})


def test_the_horizon_of_the_preparation_chooses_the_checkpoint(
    tiny_pool: Path, tiny_run: Path, storage: Storage
) -> None:
    run = {"run": str(tiny_run)}
    first = int(planned(tiny_pool, run).checkpoints[0].step.value)
    by_step = planned(tiny_pool, run, clip_model={"checkpoint": first})
    changes = {"scores": ["tracin", "clip_score"], "clip_model": {"checkpoint": "horizon"}}
    by_horizon = planned(tiny_pool, {**run, "horizon": first}, **changes)
    assert clip_scores(by_horizon, storage) == clip_scores(by_step, storage)


@pytest.mark.parametrize(
    ("changes", "way_out"),
    [
        ({"clip_model": {}}, "give `name` and `pretrained`, or `checkpoint`"),
        ({"clip_model": {"name": "ViT-B-32"}}, "give `name` and `pretrained`, or `checkpoint`"),
        ({"clip_model": {"name": "ViT-B-32", "checkpoint": 3}}, "give either"),
        ({"clip_model": {"checkpoint": "first"}}, "last"),
        ({"clip_model": {"checkpoint": 3}, "checkpoints": {"train": {}}}, "no steps to name"),
        (
            {"clip_model": {"checkpoint": 3}, "checkpoints": None, "scores": ["clip_score"],
             "select": {"k": 1, "by": "clip_score"}},
            "give `checkpoints` too",
        ),
    ],
)  # fmt: skip
def test_what_names_no_checkpoint_is_refused(changes: dict[str, Any], way_out: str) -> None:
    base = {"pool": {"shards": ["a.tar"]}, "checkpoints": {"run": "logs"}, "select": {"k": 1}}
    with pytest.raises(ValidationError, match=way_out):
        JobSpec.model_validate(base | changes)
