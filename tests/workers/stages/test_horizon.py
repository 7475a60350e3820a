"""The horizon: the rule over a curve of losses, its texts, and what a job prepares and scores up to it."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from coreset.errors import InvalidSpec
from coreset.schemas.horizon import CheckpointLosses
from coreset.schemas.plan import Plan, PlannedShard, Sourced
from coreset.spec.job import JobSpec, ValidationTarget
from coreset.spec.scores import Score
from coreset.storage.layout import PlanFolder
from coreset.storage.storage import Storage
from coreset_workers.data.loader import Loader
from coreset_workers.estimates.time import forwards
from coreset_workers.influence.horizon import choose_horizon, describe_unmeasured, horizon_warnings, lowest
from coreset_workers.influence.prepared_files import load_preparation, load_stencil
from coreset_workers.model.inputs import views
from coreset_workers.stages.plan import make_plan
from coreset_workers.stages.prepare import prepare_plan
from coreset_workers.stages.score import score_shard
from coreset_workers.stages.scorer import Scorer
from tests.coreset.selections import plan_of

CPU = torch.device("cpu")
CURVES = st.lists(st.integers(0, 1000).map(float), min_size=1, max_size=12)


@given(CURVES, CURVES)
def test_the_rule_takes_the_lowest_and_ignores_what_follows(curve: list[float], later: list[float]) -> None:
    chosen = lowest(curve)
    assert curve[chosen] == min(curve)
    assert min(curve) not in curve[:chosen]
    assert lowest(curve + [min(curve) + value for value in later]) == chosen


@given(CURVES)
def test_a_curve_that_falls_to_its_end_keeps_every_checkpoint(curve: list[float]) -> None:
    falling = sorted(set(curve), reverse=True)
    assert lowest(falling) == len(falling) - 1


def planned(horizon: str | int | None, target: str | ValidationTarget) -> Plan:
    checkpoint = {"uri": "/c.pt", "size": 1, "sha256": "0", "epoch": None, "optimizer": None}
    sourced = {name: {"value": 0.1, "source": "spec"} for name in ("lr", "lr_sum")}
    checkpoints = [
        {**checkpoint, **sourced, "index": index, "step": {"value": 10.0 * (index + 1), "source": "spec"}}
        for index in range(3)
    ]
    shards = [PlannedShard(index=0, uri="/0.tar", size=1).model_dump()]
    known = plan_of(1).model_dump() | {"shards": shards, "checkpoints": checkpoints, "scores": [Score.DIFFIN]}
    return Plan.model_validate(
        known | {"horizon": horizon, "target": target, "n_samples": Sourced(value=9, source="s")}
    )


def losses(*target: float | None) -> list[CheckpointLosses]:
    return [CheckpointLosses(step=10.0 * (i + 1), training=1.0, target=value) for i, value in enumerate(target)]


V = ValidationTarget.model_validate({"pool": {"shards": ["/v.tar"]}})


def test_a_rising_loss_is_reported_with_its_rise_and_the_way_out() -> None:
    plan = planned("auto", V)
    found = choose_horizon(plan, losses(6.0, 5.9, 6.3))
    assert (found.checkpoint, found.step) == (1, 20.0)
    assert "lowest there, 5.900" in found.why
    (warning,) = horizon_warnings(plan, found)
    assert "lowest at step 20 (5.900) and rises by 0.400 until step 30" in warning
    assert "train less" in warning
    assert horizon_warnings(plan, choose_horizon(plan, losses(6.0, 5.9, 5.8))) == []
    last = planned(None, V)
    (warning,) = horizon_warnings(last, choose_horizon(last, losses(6.0, 5.9, 6.3)))
    assert 'set `checkpoints.horizon` to "auto"' in warning


def test_without_a_held_out_loss_the_last_checkpoint_is_the_horizon() -> None:
    plan = planned(None, "training")
    found = choose_horizon(plan, losses(None, None, None))
    assert found.checkpoint == 2
    assert "no held-out loss" in found.why
    assert horizon_warnings(plan, found) == []


def test_what_is_known_before_preparing_and_what_it_costs() -> None:
    assert describe_unmeasured(planned("auto", V)).step is None
    assert describe_unmeasured(planned(20, V)).step == 20
    assert [forwards(planned(horizon, V)) for horizon in (10, 20, None, "auto")] == [2, 4, 6, 6]


def test_the_last_checkpoint_leaves_the_plan_as_it_was() -> None:
    plan = planned(None, V)
    assert "horizon" not in plan.model_dump_json()
    assert len({plan.id, planned("auto", V).id, planned(20, V).id}) == 3


@pytest.fixture(scope="module")
def overfitted(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The checkpoints of the tiny run, of which the last one has noise added to its weights."""
    folder = tmp_path_factory.mktemp("overfitted")
    first, second = (tiny_run / "checkpoints" / f"epoch_{epoch}.pt" for epoch in (1, 2))
    found = torch.load(second, weights_only=False)
    noise = torch.Generator().manual_seed(0)
    found["state_dict"] = {
        name: value + 0.5 * torch.randn(value.shape, generator=noise) if value.dim() > 1 else value
        for name, value in found["state_dict"].items()
    }
    torch.save(found, folder / "epoch_2.pt")
    return [str(first), str(folder / "epoch_2.pt")]


def test_a_job_uses_no_checkpoint_after_the_lowest_validation_loss(
    scored_spec: JobSpec, plan: Plan, tiny_pool: Path, overfitted: list[str], tmp_path: Path
) -> None:
    target = {"pool": {"shards": [str(tiny_pool / "000005.tar")]}, "size": 24}
    files = [{"uri": uri, "lr": 1e-3} for uri in overfitted]
    fields = {
        "target": target,
        "checkpoints": {"files": files},
        "model": {"name": plan.model.name, "config": plan.model.config},
        "scores": ["diffin", "tracin", "clip_score"],
    }
    spec = JobSpec.model_validate(scored_spec.model_dump() | fields)
    made, _ = make_plan(spec)
    assert made.horizon == "auto"
    storage, loader = Storage(str(tmp_path)), Loader(views(made), None, processes=0)
    prepare_plan(made, storage, loader, CPU, lambda stage, fraction: None)
    preparation = load_preparation(storage, made)
    assert preparation is not None
    assert preparation.horizon is not None
    measured = preparation.horizon.losses
    assert preparation.horizon.checkpoint == 0
    assert all(one.target_at_best_scale <= one.target + 1e-9 for one in measured)  # type: ignore[operator]
    assert any("rises by" in warning for warning in preparation.warnings)
    stencils = [load_stencil(storage, made, index) for index in range(2)]
    assert [len(stencil.points) for stencil in stencils] == [4, 1]  # the last one makes CLIP score alone
    score_shard(Scorer(made, storage, CPU), loader, made.shards[0], lambda fraction: None)
    part = pq.read_table(storage.path(PlanFolder(made.id).part(0))).to_pylist()
    good = [row for row in part if row["status"] == "ok"]
    for name in ("diffin", "tracin"):
        terms = np.array([row[f"{name}_by_checkpoint"] for row in good])
        assert terms[:, 0].any()
        assert not terms[:, 1].any()
        np.testing.assert_array_equal(terms[:, 0], [row[name] for row in good])


def test_a_step_that_no_checkpoint_has_is_refused_with_those_there_are(scored_spec: JobSpec, plan: Plan) -> None:
    steps = [round(checkpoint.step.value) for checkpoint in plan.checkpoints]

    def with_horizon(horizon: object) -> JobSpec:
        known = scored_spec.model_dump()
        return JobSpec.model_validate({**known, "checkpoints": {**known["checkpoints"], "horizon": horizon}})

    with pytest.raises(InvalidSpec, match=rf"no checkpoint has that step; expected one of {steps[0]}, {steps[1]}"):
        make_plan(with_horizon(3))
    assert make_plan(with_horizon(steps[0]))[0].horizon == steps[0]
    assert {make_plan(with_horizon(last))[0].id for last in ("auto", "last", steps[1])} == {plan.id}
