"""What is wrong with a job, and mending it: for operators, through the same door as all else."""

from fastapi import APIRouter

from coreset.schemas.diagnosis import Diagnosis
from coreset_service.api_docs import examples
from coreset_service.dependencies import Context, Ctx
from coreset_service.maintenance.doctor import Doctor
from coreset_service.routes.jobs import JobId

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["jobs"])


@router.get("/diagnosis", responses=examples.answers(examples.DIAGNOSIS))
def get_diagnosis(context: Ctx, job_id: JobId) -> Diagnosis:
    """Compare the job's record, the queue and the storage. No findings: the job is well. Changes nothing."""
    return _doctor(context).look(job_id)


@router.post("/mend", responses=examples.answers(examples.DIAGNOSIS))
def mend_job(context: Ctx, job_id: JobId) -> Diagnosis:
    """Do the same, and mend the findings that are `mendable`. Returns what was found before."""
    return _doctor(context).mend(job_id)


def _doctor(context: Context) -> Doctor:
    return Doctor(context.store, context.queue, context.storage)
