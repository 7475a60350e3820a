"""The samples of a trained run: drawn by a seed, held out or from the validation pool, within the budget."""

from pathlib import Path
from typing import Any

import pytest

from coreset.errors import InvalidSpec, PoolUnusable
from coreset.schemas.training import TrainingPlan
from coreset.spec.job import JobSpec
from coreset.spec.training import TrainSpec
from coreset_workers.stages.train_run import new_training_plan
from coreset_workers.training import plan as planning
from coreset_workers.training.defaults import INTERVALS, budget
from coreset_workers.training.samples import TrainingData, load_training_data
from tests.workers.training.conftest import CPU

SMALL = {"model": {"config": {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1},
}}}  # fmt: skip


def planned(train_spec: JobSpec, target: Any = "training", most: int = 10**6, **changes: Any) -> TrainingPlan:
    spec = train_spec.model_dump() | {"checkpoints": {"train": SMALL | changes}, "target": target}
    return new_training_plan(JobSpec.model_validate(spec), CPU, most)


def loaded(plan: TrainingPlan) -> TrainingData:
    return load_training_data(plan, 0, lambda: None)


def test_a_share_of_the_pool_is_held_out_and_not_trained_on(train_spec: JobSpec) -> None:
    data = loaded(planned(train_spec, held_out=0.2))
    assert not set(data.train.uids) & set(data.held_out.uids)
    assert len(data.held_out) == round(0.2 * (len(data.train) + len(data.held_out)))
    assert data.held_out_source == "a held-out share of the pool"


def test_another_seed_draws_other_samples_and_the_same_one_the_same(train_spec: JobSpec) -> None:
    one, same, other = (loaded(planned(train_spec, samples=60, seed=seed)).train.uids for seed in (0, 0, 1))
    assert one == same
    assert set(one) != set(other)
    assert len(one) == 60 - 8  # at least eight are held out


def test_a_validation_pool_is_what_the_loss_is_measured_on(train_spec: JobSpec, tiny_pool: Path) -> None:
    target = {"pool": {"shards": [str(tiny_pool / "000005.tar")]}, "size": 12}
    data = loaded(planned(train_spec, target))
    assert (len(data.held_out), data.held_out_source) == (12, "the validation samples")
    assert not set(data.train.uids) & set(data.held_out.uids)  # the pool has that shard, too


def test_a_pool_that_fills_no_batch_is_refused_with_a_way_out(train_spec: JobSpec) -> None:
    with pytest.raises(PoolUnusable, match="fewer than a batch of 4096"):
        loaded(planned(train_spec, batch_size=4096))


def test_equal_specs_are_one_run_and_what_decides_a_weight_makes_another(train_spec: JobSpec) -> None:
    base = planned(train_spec)
    assert planned(train_spec).id == base.id
    changes: list[dict[str, Any]] = [{"seed": 1}, {"lr": 2e-3}, {"samples": 100}, {"checkpoints": 2}, {"held_out": 0.3}]
    others = [planned(train_spec, **change).id for change in changes]
    assert len({base.id, *others}) == 1 + len(others)


def test_the_budget_follows_the_pool_and_stays_within_the_operators_limit() -> None:
    usual = budget(TrainSpec(), 3000, CPU, 10**8)
    assert (usual.samples, usual.batch_size) == (3000, 128)
    assert INTERVALS <= usual.intervals < 2 * INTERVALS
    assert 0.95 * 15_000 < usual.samples_seen <= 15_000
    assert budget(TrainSpec(), 10**9, CPU, 10**8).samples == 20_000
    assert budget(TrainSpec(), 3000, CPU, 1000).samples_seen <= 1000
    few = budget(TrainSpec(samples_seen=640, batch_size=64), 3000, CPU, 10**8)
    assert (few.intervals, few.interval_steps, few.samples_seen) == (10, 1, 640)


@pytest.mark.parametrize(
    ("spec", "most", "way_out"),
    [
        (TrainSpec(), 0, "give `checkpoints.run`"),
        (TrainSpec(samples_seen=2000), 1000, "expected at most 1,000"),
    ],
)
def test_more_than_the_operator_allows_is_refused(spec: TrainSpec, most: int, way_out: str) -> None:
    with pytest.raises(InvalidSpec, match=way_out):
        budget(spec, 3000, CPU, most)


def test_samples_that_do_not_fit_into_memory_are_refused(train_spec: JobSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "free_bytes", lambda device: 10_000)
    with pytest.raises(InvalidSpec, match=r"checkpoints\.train\.samples"):
        planned(train_spec)
