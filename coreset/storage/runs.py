"""Files of runs that jobs trained: what a job's run is trained with, and whether a run is complete."""

from contextlib import suppress

from pydantic import Field

from coreset.errors import DamagedFile, NotFound
from coreset.schemas.manifest import File
from coreset.schemas.training import TrainedRun, TrainingPlan
from coreset.spec.base import FrozenModel
from coreset.storage.layout import JobFolder, RunFolder
from coreset.storage.storage import Storage
from coreset.storage.verified import load_json, require_listed, write_json


class RunOutcome(FrozenModel):
    """The content of run.json: the run, its plan, and every file of it by path below the storage's root."""

    run: TrainedRun
    plan: TrainingPlan
    files: dict[str, File] = Field(default_factory=dict[str, File])


def load_training_plan(storage: Storage, job_id: str) -> TrainingPlan:
    """Return what the job's run is trained with. Raises NotFound and DamagedFile."""
    return load_json(storage, JobFolder(job_id).training, TrainingPlan.model_validate_json)


def save_training_plan(storage: Storage, job_id: str, plan: TrainingPlan) -> None:
    """Write what the job's run is trained with."""
    write_json(storage, JobFolder(job_id).training, plan.model_dump_json())


def find_run(storage: Storage, run_id: str) -> TrainedRun | None:
    """Return a run that is complete and undamaged, or None. A file is hashed once per process and version."""
    with suppress(NotFound, DamagedFile):
        outcome = load_json(storage, RunFolder(run_id).outcome, RunOutcome.model_validate_json)
        for name, file in outcome.files.items():
            require_listed(storage, name, file)
        return outcome.run.model_copy(update={"run": storage.uri(RunFolder(run_id).root)})
    return None


def save_run(storage: Storage, plan: TrainingPlan, run: TrainedRun, files: dict[str, File]) -> None:
    """Write the file that says that a run is complete, after all others."""
    outcome = RunOutcome(run=run, plan=plan, files=files)
    write_json(storage, RunFolder(plan.id).outcome, outcome.model_dump_json())
