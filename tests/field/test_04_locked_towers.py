"""Runs with locked towers: Adam's P is found for what the run trained, and only that is counted."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from coreset.errors import InvalidSpec
from coreset.spec.checkpoints import CheckpointsSpec
from coreset.spec.job import JobSpec
from coreset.spec.model import ParametersSpec
from coreset_workers.checkpoints.files import load
from coreset_workers.checkpoints.optimizer import adam_preconditioner
from coreset_workers.checkpoints.run import PlannedRun, plan_checkpoints
from coreset_workers.model.clip import ClipModel
from coreset_workers.model.parameters import counted_parameters, trained_parameters
from coreset_workers.stages.plan import make_plan
from tests.field.trainer import TrainedRun

CPU = torch.device("cpu")


@pytest.fixture(params=["locked_siglip", "locked_resnet"])
def locked(request: pytest.FixtureRequest) -> TrainedRun:
    return request.getfixturevalue(request.param)


def planned(run: TrainedRun) -> PlannedRun:
    return plan_checkpoints(CheckpointsSpec(run=str(run.directory)), None)


def trained_names(run: TrainedRun) -> list[str]:
    return [name for name, parameter in run.module.named_parameters() if parameter.requires_grad]


def test_the_trained_parameters_are_those_of_the_trainer(locked: TrainedRun) -> None:
    found = planned(locked)
    names = trained_parameters(found.model, found.locks)
    assert names == trained_names(locked)
    assert names != [name for name, _ in locked.module.named_parameters()]
    assert counted_parameters("all", found.model, names) == names


def test_the_preconditioner_is_adams_of_every_trained_parameter(locked: TrainedRun) -> None:
    found = planned(locked)
    (checkpoint,) = found.checkpoints
    assert checkpoint.optimizer == "adamw"
    loaded, model, names = load(checkpoint.uri), ClipModel.build(found.model, CPU), trained_names(locked)
    p = adam_preconditioner(loaded.optimizer, {name: model.shapes[name] for name in names}, names)
    assert p is not None
    assert set(p) == set(names)
    assert loaded.optimizer is not None
    for group, members in zip(loaded.optimizer["param_groups"], trainers_groups(locked), strict=True):
        (_, beta), eps = group["betas"], group["eps"]
        for name, index in zip(members, group["params"], strict=True):
            state = loaded.optimizer["state"][index]
            second = state["exp_avg_sq"]
            expected = 1 / ((second / (1 - beta ** int(state["step"]))).sqrt() + eps)
            torch.testing.assert_close(p[name], torch.where(second == 0, 0, expected))


def trainers_groups(run: TrainedRun) -> tuple[list[str], list[str]]:
    """The names in the trainer's two groups: without weight decay, and with it."""
    trained = [(name, parameter) for name, parameter in run.module.named_parameters() if parameter.requires_grad]
    plain = [n for n, p in trained if p.ndim < 2 or any(word in n for word in ("bn", "ln", "bias", "logit_scale"))]
    return plain, [name for name, _ in trained if name not in plain]


def test_a_plan_of_a_locked_run_says_what_is_counted(locked_siglip: TrainedRun, tiny_pool: Path) -> None:
    plan, warnings = make_plan(spec(locked_siglip, tiny_pool))
    assert plan.parameters == plan.trained == trained_names(locked_siglip)
    assert any("only the parameters that it trained are counted" in warning for warning in warnings)
    assert "trained" in json.loads(plan.model_dump_json())


def test_a_plan_of_another_run_is_as_it_was(tiny_run: Path, tiny_pool: Path) -> None:
    plan, warnings = make_plan(spec(TrainedRun(tiny_run, None, lambda: torch.ones(1)), tiny_pool))
    assert plan.parameters is None
    assert "trained" not in json.loads(plan.model_dump_json())
    assert warnings == []


def test_a_scope_never_counts_what_was_locked(locked_siglip: TrainedRun) -> None:
    found = planned(locked_siglip)
    names = trained_parameters(found.model, found.locks)
    last = counted_parameters(ParametersSpec(last_blocks=1), found.model, names)
    assert last
    assert not [name for name in last if name.startswith("visual.transformer")]
    with pytest.raises(InvalidSpec, match="the run locked all parameters that are asked for"):
        counted_parameters(ParametersSpec(names=["visual.transformer.*"]), found.model, names)


def spec(run: TrainedRun, pool: Path, **more: Any) -> JobSpec:
    return JobSpec.model_validate(
        {
            "pool": {"shards": [str(pool / "000000.tar")]},
            "checkpoints": {"run": str(run.directory)},
            "reference": {"size": 8},
            "select": {"k": 4},
            **more,
        }
    )
