"""A whole job in this process: the files and bytes of a served job, without Redis."""

from contextlib import closing

from coreset.queue.job_store import fingerprint
from coreset.schemas.manifest import Manifest
from coreset.settings import MAX_TRAINING_SAMPLES
from coreset.spec.job import JobSpec
from coreset.storage.plan_references import write_reference
from coreset.storage.storage import Storage
from coreset_workers.local.reporter import LocalReporter, OnChange
from coreset_workers.pipeline import JobPipeline
from coreset_workers.resources import Resources


def run_job(
    spec: JobSpec,
    storage: Storage,
    on_change: OnChange,
    loader_processes: int,
    max_training_samples: int = MAX_TRAINING_SAMPLES,
) -> Manifest:
    """Run a job and return its manifest. Outcomes that the storage has already are used again.

    Args:
        on_change: called with the job after each change.

    Raises:
        CoresetError: the job fails.
    """
    job_id = local_id(spec)
    with closing(Resources(storage, loader_processes)) as resources:
        reporter = LocalReporter(job_id, spec, on_change)
        return JobPipeline(
            job_id,
            storage,
            resources,
            reporter,
            join=lambda folder: write_reference(storage, folder, job_id),
            max_training_samples=max_training_samples,
        ).run()


def local_id(spec: JobSpec) -> str:
    """Return a job id made of the spec, so that the same spec continues the same job."""
    return f"local{fingerprint(spec)[:20]}"
