"""Evaluation of a job's selections."""

from fastapi import APIRouter, Response

from coreset.errors import NotFound
from coreset.schemas.evaluation import Evaluation
from coreset_service.api_docs import examples
from coreset_service.conditional import NOT_MODIFIED, IfNoneMatch, cache_headers, content_etag, not_modified
from coreset_service.dependencies import Ctx, JobId, require_success

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["jobs"])


@router.get(
    "/evaluation",
    response_model=Evaluation,
    responses={**examples.answers(examples.EVALUATION), **NOT_MODIFIED},
)
def get_evaluation(context: Ctx, job_id: JobId, if_none_match: IfNoneMatch = None) -> Response:
    """Return the quality, on held-out samples, of small models trained on the job's selection and on baselines.

    A job without `evaluate` in its spec has none: 404.
    """
    require_success(context, job_id)
    try:
        body = context.storage.read(f"jobs/{job_id}/evaluation.json")
    except NotFound as error:
        raise NotFound(
            f"job {job_id} was not evaluated; post its spec with `evaluate`, or run `coreset evaluate {job_id} "
            "--test SHARDS`; the existing scores are used again",
            id=job_id,
        ) from error
    etag = content_etag(body)
    headers = cache_headers(etag)
    return not_modified(etag, if_none_match) or Response(body, headers=headers, media_type="application/json")
