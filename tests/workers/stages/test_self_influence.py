"""The score `self_influence` of a part against the gradients of single samples."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from coreset.schemas.plan import Plan
from coreset.spec.scores import Score
from coreset.storage.layout import PlanFolder
from coreset.storage.storage import Storage
from coreset_workers.data.loader import Loader
from coreset_workers.data.tar import ShardReader
from coreset_workers.influence import prepared_files as prepared
from coreset_workers.influence.self_influence import VECTORS, frame
from coreset_workers.influence.trace import draw_samples, trace
from coreset_workers.model.inputs import RUN, pairs_of_block
from coreset_workers.stages.prepare import prepare_plan
from coreset_workers.stages.score import score_shard
from coreset_workers.stages.scorer import Scorer
from tests.diffin import oracle as oracle

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
Row = dict[str, Any]


@dataclass(frozen=True)
class Scored:
    """The good samples of the first shard with their scores, and how exact the scores were on the probes."""

    rows: list[Row]
    preparation: prepared.Preparation


def own_plan(plan: Plan, counted: list[str] | None) -> Plan:
    return plan.model_copy(update={"scores": [Score.SELF_INFLUENCE], "parameters": counted})


@pytest.fixture(scope="module", params=["all", "last block"])
def counted(request: pytest.FixtureRequest) -> list[str] | None:
    return None if request.param == "all" else ["visual.proj", "visual.ln_post.weight", "text_projection"]


@pytest.fixture(scope="module")
def scored(plan: Plan, loader: Loader, counted: list[str] | None, tmp_path_factory: pytest.TempPathFactory) -> Scored:
    storage, plan = Storage(str(tmp_path_factory.mktemp("own"))), own_plan(plan, counted)
    prepare_plan(plan, storage, loader, CPU, lambda stage, share: None)
    score_shard(Scorer(plan, storage, CPU), loader, plan.shards[0], lambda share: None)
    rows = pq.read_table(storage.path(PlanFolder(plan.id).part(0))).to_pylist()
    found = prepared.load_preparation(storage, plan)
    assert found is not None
    directions = [file for file in Path(storage.path(f"plans/{plan.id}/prepared")).iterdir() if file.suffix != ".json"]
    assert sum(file.stat().st_size for file in directions) < 3e6, "vectors of signs are drawn again, not stored"
    return Scored([row for row in rows if row["status"] == "ok"], found)


@pytest.fixture(scope="module")
def gradients(plan: Plan, loader: Loader, counted: list[str] | None, scored: Scored) -> list[Tensor]:
    """By checkpoint, (n, p): each good sample's gradient, in float64, by reverse mode."""
    bare = own_plan(plan, counted).model_copy(update={"scores": [Score.LOSS]})
    traced = trace(bare, draw_samples(bare, loader, lambda *_: None), CPU, torch.float64, lambda *_: None)
    wanted = {row["uid"] for row in scored.rows}
    (block,) = loader.blocks(ShardReader(plan.shards[0].uri), 10**6)
    pairs = pairs_of_block(block, RUN)
    assert {block.samples[i].uid for i in block.good} == wanted

    def of(checkpoint: Any) -> Tensor:
        losses, theta = checkpoint.samples, checkpoint.segment.theta
        each = [
            oracle.gradient(lambda t, i=i: losses.losses(t, losses.context(t), pairs[i : i + 1])[0], theta)
            for i in range(len(pairs))
        ]
        return torch.stack(each)

    return [of(checkpoint) for checkpoint in traced.checkpoints]


def test_it_is_minus_the_mean_square_of_slopes_along_the_frame(
    plan: Plan, counted: list[str] | None, scored: Scored, gradients: list[Tensor]
) -> None:
    vectors = frame(own_plan(plan, counted), gradients[0].shape[1], CPU).double()
    slopes = [g @ vectors.T for g in gradients]
    factors = [-c.lr.value / plan.n_samples.value for c in plan.checkpoints]
    exact = sum(f * s.square().mean(1) for f, s in zip(factors, slopes, strict=True))
    found = torch.tensor([row["self_influence"] for row in scored.rows], dtype=torch.float64)
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-2 * float(exact.abs().max()))


def test_it_estimates_the_squared_norm_of_the_gradient(plan: Plan, scored: Scored, gradients: list[Tensor]) -> None:
    factors = [-c.lr.value / plan.n_samples.value for c in plan.checkpoints]
    exact = sum(f * g.square().sum(1) for f, g in zip(factors, gradients, strict=True))
    found = torch.tensor([row["self_influence"] for row in scored.rows], dtype=torch.float64)
    relative = found / exact - 1
    assert float(relative.square().mean().sqrt()) < 2 * (2 / VECTORS) ** 0.5
    assert bool((found < 0).all())


def test_the_gate_measures_it(scored: Scored) -> None:
    found = scored.preparation.accuracy[Score.SELF_INFLUENCE]
    assert found.spearman >= 0.99
    assert found.samples == 32
    assert all("self_influence" in steps for steps in scored.preparation.steps)
