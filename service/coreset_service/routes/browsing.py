"""Browsing of a job's result: numbers of its charts, pages of samples, differences of another cut."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from coreset.browsing.cut_diff import cut_diff
from coreset.browsing.sample_pages import sample_page
from coreset.errors import NotFound
from coreset.schemas.cut_diff import CutDiff
from coreset.schemas.group_counts import GroupCounts
from coreset.schemas.part import SampleStatus
from coreset.schemas.sample import MAX_PAGE_SAMPLES, Order, SamplePage
from coreset.schemas.summary import Summary
from coreset.spec.scores import Score
from coreset.storage.layout import JobFolder, load_result
from coreset.storage.verified import read_json
from coreset_service.api_docs import examples
from coreset_service.dependencies import COSTLY, Ctx, JobId, require_success

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["looking"])

IMMUTABLE = {"Cache-Control": "private, max-age=31536000, immutable"}
"""Headers of answers about a job that has succeeded: it never changes, and its id is never used again."""


@router.get("/summary", response_model=Summary, responses=examples.answers(examples.SUMMARY))
def get_summary(context: Ctx, job_id: JobId) -> Response:
    """Return the numbers of the job's charts, and some samples with thumbnails."""
    require_success(context, job_id)
    try:
        summary = read_json(context.storage, JobFolder(job_id).summary)
    except NotFound as error:
        raise NotFound(f"job {job_id} ran in a version without summaries; post its spec again", id=job_id) from error
    return Response(summary, media_type="application/json", headers=IMMUTABLE)


@router.get("/samples", dependencies=[COSTLY], responses=examples.answers(examples.SAMPLES))
def get_samples(
    context: Ctx,
    response: Response,
    job_id: JobId,
    by: Annotated[Score | None, Query(description="sort by this score; without it by uid")] = None,
    ascending: Annotated[bool, Query(description="lowest first")] = False,
    status: Annotated[SampleStatus, Query(description="`ok`, or a reason why samples are bad")] = SampleStatus.OK,
    caption: Annotated[
        str | None, Query(max_length=200, description="text that the caption contains, in any case")
    ] = None,
    page_size: Annotated[int, Query(ge=1, description=f"cut to {MAX_PAGE_SAMPLES}")] = 24,
    page_token: Annotated[str | None, Query(max_length=2000, description="next_page_token of the page before")] = None,
) -> SamplePage:
    """Return a page of samples with captions, scores and thumbnails: good ones, or bad ones by reason."""
    require_success(context, job_id)
    manifest, plan = load_result(context.storage, job_id)
    order = Order(by=by, ascending=ascending, status=status, caption=caption)
    response.headers.update(IMMUTABLE)
    return sample_page(context.storage, plan, manifest.selection, order, page_size, page_token)


@router.get("/groups", response_model=GroupCounts, dependencies=[COSTLY], responses=examples.answers(examples.GROUPS))
def get_groups(
    context: Ctx,
    job_id: JobId,
    field: Annotated[str, Query(max_length=110, description="`cluster`, `shard` or `metadata_NAME`")],
) -> Response:
    """Count the scored and the kept samples of each group: of each cluster, shard, or value of a metadata field."""
    require_success(context, job_id)
    counts = context.group_counts.of(context.storage, job_id, field)
    return Response(counts.model_dump_json(), media_type="application/json", headers=IMMUTABLE)


@router.get("/changes", response_model=CutDiff, dependencies=[COSTLY], responses=examples.answers(examples.CHANGES))
def get_changes(
    context: Ctx,
    job_id: JobId,
    k: Annotated[int, Query(ge=1, description="samples to keep")],
    by: Annotated[str, Query(max_length=64, description="a score, or `selection`, the job's own")] = "selection",
) -> Response:
    """Compare the best k by a ranking with the job's selection; return each score's cut and all overlaps at k."""
    require_success(context, job_id)
    diff = cut_diff(context.score_tables.of(context.storage, job_id), k, by)
    return Response(diff.model_dump_json(), media_type="application/json", headers=IMMUTABLE)
