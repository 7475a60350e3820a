"""What a job's selections are worth."""

import hashlib

from fastapi import APIRouter, Response

from coreset.errors import NotFound
from coreset.schemas.evaluation import Evaluation
from coreset.storage.layout import JobFolder
from coreset_service.api_docs import examples
from coreset_service.dependencies import Ctx
from coreset_service.routes.jobs import JobId, require_success
from coreset_service.routes.selections import NOT_CHANGED, IfNoneMatch, kept, unless_known

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["jobs"])


@router.get(
    "/evaluation",
    response_model=Evaluation,
    responses={**examples.answers(examples.EVALUATION), **NOT_CHANGED},
)
def get_evaluation(context: Ctx, job_id: JobId, if_none_match: IfNoneMatch = None) -> Response:
    """Return what small models trained on the job's selection, and on its rivals, can do on held-out samples.

    A job has one if its spec has `evaluate`; others are 404.
    """
    require_success(context, job_id)
    try:
        body = context.storage.read(JobFolder(job_id).evaluation)
    except NotFound as error:
        raise NotFound(
            f"job {job_id} was not evaluated; post its spec with `evaluate`, or `coreset evaluate {job_id} --test "
            "SHARDS`: the scores that are there are used again",
            id=job_id,
        ) from error
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    return unless_known(etag, if_none_match) or Response(body, headers=kept(etag), media_type="application/json")
