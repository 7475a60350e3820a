"""Selections: other coresets from the scores a job has made, and their files."""

from collections.abc import Iterator
from typing import Annotated, BinaryIO, Literal

from fastapi import APIRouter, Body, Path, Response
from fastapi.responses import StreamingResponse

from coreset.errors import Conflict, InvalidSpec, NotFound
from coreset.held import require_held
from coreset.plan import Plan
from coreset.result import Selection
from coreset.spec import SelectSpec
from service import examples
from service.context import Context, Ctx
from service.routes.jobs import JobId, require_success

router = APIRouter(prefix="/v1/jobs/{job_id}/selections", tags=["selections"])

SelectionId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="of the selection")]
FileName = Literal["subset.npy", "subset.parquet", "selection.json"]
PIECE = 1024 * 1024


@router.post("", status_code=201, responses=examples.answers(examples.SELECTION, 201))
def post_selection(
    context: Ctx,
    response: Response,
    job_id: JobId,
    spec: Annotated[SelectSpec, Body(examples=[examples.SELECT])],
) -> Selection:
    """Cut another coreset: a query over the parts, without a GPU."""
    plan = _plan(context, job_id)
    _check(spec, plan)
    selection = context.select(context.storage, plan, job_id, spec)
    response.headers["Location"] = f"/v1/jobs/{job_id}/selections/{selection.id}"
    return selection


@router.get("/{selection_id}", responses=examples.answers(examples.SELECTION))
def get_selection(context: Ctx, job_id: JobId, selection_id: SelectionId) -> Selection:
    """Look at a selection."""
    context.store.get(job_id)
    with _open(context, job_id, selection_id, "selection.json") as file:
        return Selection.model_validate_json(file.read())


@router.get("/{selection_id}/files/{name}", response_class=StreamingResponse, responses=examples.PROBLEMS)
def get_file(context: Ctx, job_id: JobId, selection_id: SelectionId, name: FileName) -> StreamingResponse:
    """Download a file: subset.npy (DataComp's uids), subset.parquet (with scores), selection.json."""
    context.store.get(job_id)
    file = _open(context, job_id, selection_id, name)
    media_type = "application/json" if name.endswith(".json") else "application/octet-stream"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(_pieces(file), media_type=media_type, headers=headers)


def _plan(context: Context, job_id: str) -> Plan:
    job = require_success(context, job_id)
    if job.plan_id is None:
        raise Conflict(f"job {job_id} has no plan", id=job_id)
    return Plan.from_json(context.storage.read(f"plans/{job.plan_id}/plan.json"))


def _check(spec: SelectSpec, plan: Plan) -> None:
    if spec.write_shards:
        raise InvalidSpec("write_shards works in a job spec only, where workers write the shards", field="write_shards")
    require_held(plan, spec)


def _open(context: Context, job_id: str, selection_id: str, name: str) -> BinaryIO:
    try:
        return context.storage.open(f"jobs/{job_id}/selections/{selection_id}/{name}")
    except NotFound as error:
        raise NotFound(f"job {job_id} has no selection {selection_id} with {name}", id=selection_id) from error


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while piece := file.read(PIECE):
            yield piece
