"""Diagnosis and repair of a job, for operators."""

from fastapi import APIRouter

from coreset.schemas.diagnosis import Diagnosis
from coreset_service.api_docs import examples
from coreset_service.dependencies import COSTLY, Context, Ctx, JobId
from coreset_service.maintenance import Doctor

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["jobs"])


@router.get("/diagnosis", dependencies=[COSTLY], responses=examples.answers(examples.DIAGNOSIS))
def get_diagnosis(context: Ctx, job_id: JobId) -> Diagnosis:
    """Compare the job's record, the queue and the storage, and change nothing. A healthy job has no findings.

    Files are hashed for 10 s; ask again until `files_checked` is `files`.
    """
    return _doctor(context).diagnose(job_id)


@router.post("/mend", dependencies=[COSTLY], responses=examples.answers(examples.DIAGNOSIS))
def mend_job(context: Ctx, job_id: JobId) -> Diagnosis:
    """Repair the findings that are `mendable`. Returns the diagnosis from before the repair."""
    return _doctor(context).mend(job_id)


def _doctor(context: Context) -> Doctor:
    return Doctor(context.store, context.queue, context.storage)
