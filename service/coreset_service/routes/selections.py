"""Selections: further coresets from a job's scores, and their files."""

from collections.abc import Iterator
from typing import Annotated, BinaryIO, Literal

import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import APIRouter, Body, Path, Query, Response
from fastapi.responses import StreamingResponse

from coreset.errors import InvalidSpec, NotFound
from coreset.schemas.manifest import Selection, SelectionPage
from coreset.schemas.plan import Plan
from coreset.selection.requirements import require_columns
from coreset.spec.selection import SelectSpec
from coreset.storage.layout import JobFolder
from coreset.storage.verified import load_json
from coreset_service.api_docs import examples
from coreset_service.conditional import NOT_MODIFIED, IfNoneMatch, cache_headers, content_etag, not_modified
from coreset_service.dependencies import COSTLY, SINGLE_KEYS, Context, Ctx, JobId, plan_of
from coreset_service.selection_pages import selection_page

router = APIRouter(prefix="/v1/jobs/{job_id}/selections", tags=["selections"])

SelectionId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="id of the selection")]
FileName = Literal["subset.npy", "subset.parquet", "suspects.parquet", "selection.json"]
PIECE = 1024 * 1024
MAX_PAGE = 100

CONCURRENT_SELECTIONS = CapacityLimiter(2)
"""Selections computed at the same time, since each may take gigabytes. Further ones wait without a thread."""


@router.post(
    "", status_code=201, dependencies=[COSTLY, SINGLE_KEYS], responses=examples.answers(examples.SELECTION, 201)
)
async def post_selection(
    context: Ctx,
    response: Response,
    job_id: JobId,
    spec: Annotated[SelectSpec, Body(examples=[examples.SELECT])],
) -> Selection:
    """Select a further coreset: a query over the parts, without a GPU. Equal specs give the same selection."""
    selection = await anyio.to_thread.run_sync(_select, context, job_id, spec, limiter=CONCURRENT_SELECTIONS)
    response.headers["Location"] = f"/v1/jobs/{job_id}/selections/{selection.id}"
    return selection


def _select(context: Context, job_id: str, spec: SelectSpec) -> Selection:
    plan = plan_of(context, job_id)
    _check(spec, plan)
    return context.select(context.storage, plan, job_id, spec)


@router.get("", responses=examples.answers(examples.SELECTIONS))
def list_selections(
    context: Ctx,
    job_id: JobId,
    page_size: Annotated[int, Query(ge=1, description=f"cut to {MAX_PAGE}")] = 20,
    page_token: Annotated[str | None, Query(max_length=500, description="next_page_token of the page before")] = None,
) -> SelectionPage:
    """List a job's selections, newest first."""
    context.store.get(job_id)
    return selection_page(context.storage, job_id, min(page_size, MAX_PAGE), page_token)


@router.get(
    "/{selection_id}", response_model=Selection, responses={**examples.answers(examples.SELECTION), **NOT_MODIFIED}
)
def get_selection(
    context: Ctx, job_id: JobId, selection_id: SelectionId, if_none_match: IfNoneMatch = None
) -> Response:
    """Show a selection."""
    body = _read(context, job_id, selection_id).model_dump_json().encode()
    etag = content_etag(body)
    headers = cache_headers(etag)
    return not_modified(etag, if_none_match) or Response(body, headers=headers, media_type="application/json")


@router.get(
    "/{selection_id}/files/{name}",
    response_class=StreamingResponse,
    responses={**examples.PROBLEMS, **NOT_MODIFIED},
)
def get_file(
    context: Ctx, job_id: JobId, selection_id: SelectionId, name: FileName, if_none_match: IfNoneMatch = None
) -> Response:
    """Download a file: subset.npy (DataComp's uids), subset.parquet (with scores), selection.json.

    The first selection of a job with `clean` also has suspects.parquet.
    """
    written = _read(context, job_id, selection_id).files.get(name)
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    if written is not None:
        etag = f'"{written.sha256}"'
        if unchanged := not_modified(etag, if_none_match):
            return unchanged
        headers |= cache_headers(etag) | {"Content-Length": str(written.size)}
    file = _open(context, job_id, selection_id, name)
    media_type = "application/json" if name.endswith(".json") else "application/octet-stream"
    return StreamingResponse(_pieces(file), media_type=media_type, headers=headers)


def _check(spec: SelectSpec, plan: Plan) -> None:
    if spec.write_shards:
        raise InvalidSpec(
            "write_shards is for job specs only, since workers write the shards",
            field="write_shards",
        )
    require_columns(plan, spec)


def _read(context: Context, job_id: str, selection_id: str) -> Selection:
    context.store.get(job_id)
    name = JobFolder(job_id).selection(selection_id).selection
    try:
        return load_json(context.storage, name, Selection.model_validate_json)
    except NotFound as error:
        raise NotFound(f"job {job_id} has no selection {selection_id}", id=selection_id) from error


def _open(context: Context, job_id: str, selection_id: str, name: str) -> BinaryIO:
    try:
        return context.storage.open(JobFolder(job_id).selection(selection_id).file(name))
    except NotFound as error:
        raise NotFound(f"job {job_id} has no selection {selection_id} with {name}", id=selection_id) from error


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while piece := file.read(PIECE):
            yield piece
