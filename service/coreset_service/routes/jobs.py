"""Jobs: submit, list, show, wait for, cancel and delete them; their result and report."""

import time
from typing import Annotated

import anyio
import structlog
from fastapi import APIRouter, BackgroundTasks, Body, Header, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from coreset.access.absolute_paths import require_absolute
from coreset.errors import QueueFull, Unavailable
from coreset.queue.job_listing import MAX_PAGE
from coreset.queue.job_store import Caller, new_job_id
from coreset.schemas.job import TERMINAL, Job, JobPage, JobStatus
from coreset.schemas.manifest import Manifest
from coreset.schemas.preflight import Preflight
from coreset.spec.job import JobSpec
from coreset.storage.layout import JobFolder
from coreset.storage.verified import read_json
from coreset_service.api_docs import examples
from coreset_service.conditional import NOT_MODIFIED
from coreset_service.dependencies import SINGLE_KEYS, Context, Ctx, JobId, require_success
from coreset_service.http.auth import caller_of, payer_of
from coreset_service.job_links import with_links
from coreset_service.maintenance import Retention
from coreset_service.webhooks import require_deliverable

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

log = structlog.get_logger("service.jobs")

RETRY_AFTER_SECONDS = "2"
MAX_WAIT_SECONDS = 60
POLL_SECONDS = 0.5
CHECK_POLL_SECONDS = 0.2

IdempotencyKey = Annotated[
    str | None,
    Header(min_length=1, max_length=255, description="a POST repeated with the same key gives the same job, for 24 h"),
]


@router.post(
    "",
    status_code=202,
    dependencies=[SINGLE_KEYS],
    response_model=Job,
    responses={
        **examples.answers(examples.JOB, 202),
        200: {
            "model": Preflight,
            "description": "With `validate_only`: the plan, without the job",
            "content": {"application/json": {"example": examples.PREFLIGHT}},
        },
    },
)
async def post_job(
    context: Ctx,
    request: Request,
    response: Response,
    spec: Annotated[JobSpec, Body(examples=[examples.SPEC, examples.CLEAN])],
    validate_only: Annotated[bool, Query(description="plan the job without starting it")] = False,
    idempotency_key: IdempotencyKey = None,
) -> Job | Response:
    """Start a job. Poll the address in `Location` until it has ended.

    Shards and checkpoints that the service can see, on the workers' own machine or in the object store of the results,
    are rejected at once if they are not there. With `validate_only`, a worker examines shards and checkpoints, and the
    answer is the plan with its memory, time and warnings; no job is created, and an Idempotency-Key is ignored.
    Whatever would make the job fail is rejected in the same way. If the check takes long or all workers are busy, the
    answer is 503; repeat the request to wait for it.
    """
    async with context.costly.turn(payer_of(request.scope)):
        await run_in_threadpool(require_absolute, spec)
        await run_in_threadpool(context.locations.check_spec, spec)
        left = await context.inputs.left_to_worker(spec)
    if spec.webhook is not None:
        await run_in_threadpool(_require_webhook, context, spec)
    await run_in_threadpool(_require_room, context)
    if validate_only:
        return await _preflight(context, request, spec, left)
    return await run_in_threadpool(_start, context, response, spec, idempotency_key, caller_of(request))


def _require_webhook(context: Context, spec: JobSpec) -> None:
    settings = context.settings
    require_deliverable(spec, secret=settings.webhook_secret is not None, private=settings.webhook_private)


def _require_room(context: Context) -> None:
    """Raise QueueFull if as many tasks wait as are allowed."""
    waiting = sum(context.queue.census.waiting_counts().values())
    limit = context.settings.max_waiting_tasks
    if waiting >= limit:
        raise QueueFull(
            f"{waiting:,} tasks are waiting, the limit is {limit:,}; post the job later",
            retry_after=60,
        )


def _start(context: Context, response: Response, spec: JobSpec, idempotency_key: str | None, name: str | None) -> Job:
    key = idempotency_key.strip('"') if idempotency_key else None
    settings = context.settings
    caller = Caller(name, settings.max_open_jobs, settings.max_spec_bytes) if name else None
    job = context.store.create(spec, new_job_id(), key, caller)
    log.info("job accepted", job=job.id)
    if job.status is JobStatus.QUEUED:
        context.queue.enqueue_prepare(job.id)
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    response.headers["Retry-After"] = RETRY_AFTER_SECONDS
    return with_links(job)


@router.get("", responses=examples.answers(examples.JOBS))
def list_jobs(
    context: Ctx,
    page_size: Annotated[int, Query(ge=1, description=f"cut to {MAX_PAGE}")] = 20,
    page_token: Annotated[str | None, Query(max_length=500, description="next_page_token of the page before")] = None,
    status: JobStatus | None = None,
    label: Annotated[str | None, Query(max_length=300, description="only jobs with this label: key:value")] = None,
) -> JobPage:
    """List jobs, newest first."""
    page = context.store.listing.page(page_size, page_token, status, label)
    return JobPage(jobs=[with_links(job) for job in page.jobs], next_page_token=page.next_page_token)


@router.get(
    "/{job_id}",
    response_model=Job,
    responses={**examples.answers(examples.JOB), **NOT_MODIFIED},
)
async def get_job(
    context: Ctx,
    request: Request,
    job_id: JobId,
    wait: Annotated[int, Query(ge=0, description="seconds to wait for a change, 60 at most")] = 0,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Show a job.

    With `wait`, the answer is delayed until the job differs from the version in `If-None-Match`, or, without that
    header, until it has ended; by at most `wait` seconds.
    """
    etag = await _wait_for_change(context, request, job_id, min(wait, MAX_WAIT_SECONDS), if_none_match)
    if etag == if_none_match:
        return Response(status_code=304, headers={"ETag": etag, "Retry-After": RETRY_AFTER_SECONDS})
    job = await run_in_threadpool(context.store.get, job_id)
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    if job.status not in TERMINAL:
        headers["Retry-After"] = RETRY_AFTER_SECONDS
    return Response(with_links(job).model_dump_json(), headers=headers, media_type="application/json")


@router.post("/{job_id}/cancel", status_code=202, responses=examples.answers(examples.JOB, 202))
def cancel_job(context: Ctx, background: BackgroundTasks, job_id: JobId) -> Job:
    """Stop a job. The parts that it has written stay, so the same spec continues from there when it is posted again."""
    job = context.store.request_cancel(job_id)
    background.add_task(context.queue.finish_cancel, job_id)  # after the answer, since 16,000 tasks take seconds
    return with_links(job)


@router.delete("/{job_id}", status_code=204, responses=examples.PROBLEMS)
def delete_job(context: Ctx, background: BackgroundTasks, job_id: JobId) -> None:
    """Delete a job that has ended: its record, its result, its selections, and its scores unless another job uses them.

    The job is gone when the answer arrives; its files are removed in the following seconds.
    """
    context.store.delete(job_id)
    background.add_task(Retention(context.store, context.queue, context.storage).clean, job_id)


@router.get("/{job_id}/result", response_model=Manifest, responses=examples.answers(examples.MANIFEST))
def get_result(context: Ctx, job_id: JobId) -> Response:
    """Return the manifest: every file with its rows, size and sha256, and how the scores were computed."""
    require_success(context, job_id)
    manifest = read_json(context.storage, JobFolder(job_id).manifest)
    return Response(manifest, media_type="application/json")


@router.get(
    "/{job_id}/report",
    response_class=Response,
    responses={**examples.PROBLEMS, 200: {"content": {"text/html": {"example": "<!doctype html>..."}}}},
)
def get_report(context: Ctx, job_id: JobId) -> Response:
    """Return the report, one self-contained HTML page."""
    require_success(context, job_id)
    return Response(context.storage.read(JobFolder(job_id).report), media_type="text/html; charset=utf-8")


async def _preflight(context: Context, request: Request, spec: JobSpec, left: str | None) -> Response:
    """Return a worker's preflight.

    Args:
        left: why the service has left inputs to the worker.

    Raises:
        InvalidInput: the job would fail.
        Unavailable: there is no answer in time.
    """
    deadline = time.monotonic() + context.settings.check_seconds
    while (found := await run_in_threadpool(context.queue.preflights.check, spec, payer_of(request.scope))) is None:
        if time.monotonic() >= deadline or await request.is_disconnected():
            if await run_in_threadpool(context.queue.preflights.started, spec):
                raise Unavailable("the check is still running; repeat the request to wait for it", check="running")
            unseen = f". Shards and checkpoints are not checked yet: {left}" if left else ""
            raise Unavailable(
                "all workers are busy; a worker takes the check as its next task, repeat the request to wait for it"
                + unseen,
                check="waiting",
            )
        await anyio.sleep(CHECK_POLL_SECONDS)
    return Response(Preflight.model_validate(found).model_dump_json(), media_type="application/json")


async def _wait_for_change(context: Context, request: Request, job_id: str, wait: int, known: str | None) -> str:
    """Wait for a change, `wait` seconds at most, and return the ETag of the job's newest state."""
    deadline = time.monotonic() + wait
    while True:
        version, status = await run_in_threadpool(context.store.peek, job_id)
        if status is JobStatus.CANCELLING and await run_in_threadpool(context.queue.finish_cancel, job_id):
            continue
        etag = f'W/"{version}"'
        changed = etag != known if known else status in TERMINAL
        if changed or status in TERMINAL or time.monotonic() >= deadline or await request.is_disconnected():
            return etag
        await anyio.sleep(min(POLL_SECONDS, max(0.0, deadline - time.monotonic())))
