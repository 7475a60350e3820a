"""The stage before preparing, if a job trains its run: the run's plan, and the spec with the run in its place."""

from collections.abc import Callable
from contextlib import suppress

import torch

from coreset.errors import DamagedFile, NotFound
from coreset.schemas.training import TrainingPlan
from coreset.spec.checkpoints import CheckpointsSpec
from coreset.spec.job import JobSpec
from coreset.storage.layout import RunFolder
from coreset.storage.runs import load_training_plan, save_training_plan
from coreset.storage.storage import Storage
from coreset_workers.data.listing import list_shards
from coreset_workers.stages.plan import count_pool
from coreset_workers.training.plan import plan_training

TRAINING_SHARE = 0.8
"""Share of preparing that training takes, for the progress that is shown."""


def job_training_plan(
    storage: Storage, job_id: str, spec: JobSpec, device: torch.device, most: int, heartbeat: Callable[[], object]
) -> TrainingPlan:
    """Return what the job's run is trained with. It is planned once, so that workers of another kind continue it.

    Args:
        most: largest number of samples seen that the operator allows.
    """
    with suppress(NotFound, DamagedFile):
        return load_training_plan(storage, job_id)
    plan = new_training_plan(spec, device, most, heartbeat)
    save_training_plan(storage, job_id, plan)
    return plan


def new_training_plan(
    spec: JobSpec, device: torch.device, most: int, heartbeat: Callable[[], object] = lambda: None
) -> TrainingPlan:
    """Plan the run of a spec. Raises as `list_shards` and `plan_training` do."""
    shards = list_shards(spec.pool, heartbeat)
    return plan_training(spec, shards, count_pool(shards, heartbeat).value, device, most, heartbeat)


def with_trained_run(spec: JobSpec, storage: Storage, run_id: str) -> JobSpec:
    """Return the spec that names the trained run."""
    assert spec.checkpoints is not None
    run = storage.uri(RunFolder(run_id).root)
    checkpoints = CheckpointsSpec(run=run, horizon=spec.checkpoints.horizon)
    return spec.model_copy(update={"checkpoints": checkpoints})
