"""Runs that jobs train: continued bit by bit wherever they were interrupted, in open_clip's layout."""

from pathlib import Path

import pytest
import torch

from coreset.errors import PoolUnusable
from coreset.schemas.training import TrainedRun, TrainingPlan
from coreset.spec.checkpoints import CheckpointsSpec
from coreset.storage.layout import RunFolder
from coreset.storage.runs import find_run
from coreset.storage.storage import Storage
from coreset_workers.checkpoints.files import load
from coreset_workers.checkpoints.optimizer import adam_preconditioner
from coreset_workers.checkpoints.run import plan_checkpoints
from coreset_workers.model.clip import ClipModel
from coreset_workers.training.samples import TrainingData
from coreset_workers.training.train import RunTrainer
from tests.workers.training.conftest import CPU, Trainer


def files_of(storage: Storage, run_id: str) -> dict[str, bytes]:
    root = Path(storage.path(RunFolder(run_id).root))
    found = sorted(path for path in root.rglob("*") if path.is_file() and path.name != "run.json")
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


def test_a_run_that_is_interrupted_after_every_interval_has_the_same_bytes(
    trained_storage: Storage, training_plan: TrainingPlan, trainer: Trainer, storage: Storage
) -> None:
    stretches = 0
    while not trainer(storage).train(seconds=0.0):
        torch.manual_seed(stretches)  # what another job draws in between
        stretches += 1
    assert stretches >= 4
    assert files_of(storage, training_plan.id) == files_of(trained_storage, training_plan.id)


def test_an_interruption_in_the_middle_of_an_interval_changes_no_byte(
    trained_storage: Storage,
    training_plan: TrainingPlan,
    training_data: TrainingData,
    trainer: Trainer,
    storage: Storage,
) -> None:
    class KilledError(Exception):
        pass

    def die_at(step: str) -> RunTrainer:
        def advance(words: str, fraction: float) -> None:
            if f"step {step} " in words:
                raise KilledError

        return RunTrainer(training_plan, storage, training_data, CPU, advance)

    for step in ("3", "4", "9"):
        with pytest.raises(KilledError):
            die_at(step).train()
    assert trainer(storage).train()
    assert files_of(storage, training_plan.id) == files_of(trained_storage, training_plan.id)


@pytest.mark.parametrize("damage", ["state", "progress"])
def test_a_damaged_state_begins_the_training_again(
    damage: str, trained_storage: Storage, training_plan: TrainingPlan, trainer: Trainer, storage: Storage
) -> None:
    assert not trainer(storage).train(seconds=0.0)
    folder = RunFolder(training_plan.id)
    path = Path(storage.path(folder.progress if damage == "progress" else folder.state(1)))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert trainer(storage).train()
    assert files_of(storage, training_plan.id) == files_of(trained_storage, training_plan.id)


def test_a_damaged_checkpoint_makes_the_run_incomplete_until_it_is_trained_again(
    training_plan: TrainingPlan, trained_storage: Storage, trainer: Trainer, storage: Storage
) -> None:
    assert trainer(storage).train()
    before = files_of(storage, training_plan.id)
    name = next(name for name in before if name.endswith(".pt"))
    path = Path(storage.path(RunFolder(training_plan.id).root)) / name
    path.write_bytes(before[name][:-1] + b"?")
    assert find_run(storage, training_plan.id) is None
    assert trainer(storage).train()
    assert files_of(storage, training_plan.id) == before


def test_the_run_has_the_layout_that_the_reader_of_open_clip_runs_accepts(
    trained_run: TrainedRun, training_plan: TrainingPlan
) -> None:
    planned = plan_checkpoints(CheckpointsSpec(run=trained_run.run), None)
    assert planned.warnings == []
    assert [checkpoint.step.value for checkpoint in planned.checkpoints] == trained_run.steps
    assert {checkpoint.lr_sum.source for checkpoint in planned.checkpoints} == {"params.txt"}
    assert {checkpoint.optimizer for checkpoint in planned.checkpoints} == {"adamw"}
    assert planned.model.config == training_plan.model.config
    model = ClipModel.build(planned.model, CPU)
    last = load(planned.checkpoints[-1].uri)
    model.require_fit(last.state_dict, last.uri)
    preconditioner = adam_preconditioner(last.optimizer, model.shapes, set(model.shapes))
    assert preconditioner is not None
    assert {name: value.shape for name, value in preconditioner.items()} == model.shapes


def test_training_stops_at_the_lowest_held_out_loss(trained_run: TrainedRun, training_plan: TrainingPlan) -> None:
    losses = {point.step: point.loss for point in trained_run.losses}
    assert trained_run.steps[-1] == min(losses, key=losses.__getitem__)
    assert losses[trained_run.steps[-1]] < losses[0]
    assert trained_run.held_out_source == "a held-out share of the pool"
    assert trained_run.samples_seen <= training_plan.samples_seen


def test_a_training_that_does_not_learn_says_what_to_change(
    training_plan: TrainingPlan, training_data: TrainingData, storage: Storage
) -> None:
    plan = training_plan.model_copy(update={"lr": 1e-30, "intervals": 2})
    with pytest.raises(PoolUnusable, match=r"checkpoints\.train\.lr"):
        RunTrainer(plan, storage, training_data, CPU, lambda words, fraction: None).train()


def test_a_run_that_another_job_ends_first_is_taken_as_it_is(
    trained_storage: Storage,
    training_plan: TrainingPlan,
    training_data: TrainingData,
    trainer: Trainer,
    storage: Storage,
) -> None:
    others: list[bool] = []

    def meanwhile(words: str, fraction: float) -> None:
        if "step 3 " in words or "step 4 " in words:
            others.append(trainer(storage).train(seconds=0.0))
        if "step 5 " in words:
            others.append(trainer(storage).train())

    assert RunTrainer(training_plan, storage, training_data, CPU, meanwhile).train()
    assert others == [False, False, True]
    assert files_of(storage, training_plan.id) == files_of(trained_storage, training_plan.id)


def test_a_state_that_is_lost_at_the_end_begins_the_training_again(
    trained_storage: Storage,
    trained_run: TrainedRun,
    training_plan: TrainingPlan,
    training_data: TrainingData,
    trainer: Trainer,
    storage: Storage,
) -> None:
    def lose_states(words: str, fraction: float) -> None:
        if f"step {trained_run.losses[-1].step} " in words:
            storage.delete(RunFolder(training_plan.id).work)

    assert not RunTrainer(training_plan, storage, training_data, CPU, lose_states).train()
    assert trainer(storage).train()
    assert files_of(storage, training_plan.id) == files_of(trained_storage, training_plan.id)
