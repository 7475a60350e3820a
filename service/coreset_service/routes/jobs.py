"""Jobs: post, list, look at, wait for, cancel, delete, result."""

import time
from typing import Annotated

import anyio
import structlog
from fastapi import APIRouter, BackgroundTasks, Body, Header, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from coreset.errors import Conflict, QueueFull, Unavailable
from coreset.queue.job_store import MAX_PAGE, Caller, new_job_id
from coreset.redaction import redact_model
from coreset.schemas.job import TERMINAL, Job, JobPage, JobStatus
from coreset.schemas.manifest import Manifest
from coreset.schemas.preflight import Preflight
from coreset.spec.job import JobSpec
from coreset_service.api_docs import examples
from coreset_service.dependencies import Context, Ctx
from coreset_service.http.auth import caller_of, payer_of
from coreset_service.maintenance.retention import Retention
from coreset_service.webhooks.message import require_deliverable

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

log = structlog.get_logger("service.jobs")

RETRY_AFTER_SECONDS = "2"
MAX_WAIT_SECONDS = 60
POLL_SECONDS = 0.5
CHECK_POLL_SECONDS = 0.2

JobId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="of the job")]
IdempotencyKey = Annotated[
    str | None,
    Header(min_length=1, max_length=255, description="repeating a POST with the same key gives the same job, for 24 h"),
]


@router.post(
    "",
    status_code=202,
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
    validate_only: Annotated[bool, Query(description="plan the job, and start nothing")] = False,
    idempotency_key: IdempotencyKey = None,
) -> Job | Response:
    """Start a job. Poll the address in `Location` until it has ended.

    With `validate_only`, a worker looks at shards and checkpoints, and the answer is the plan, what it would take and
    what is doubtful; no job is made, and an Idempotency-Key is not used. What would make the job fail is refused as it
    would be. Where the check takes long or workers are busy, the answer is 503; the same request again joins it.
    """
    async with context.costly.turn(payer_of(request.scope)):
        await run_in_threadpool(context.locations.check_spec, spec)
    if spec.webhook is not None:
        await run_in_threadpool(_require_webhook, context, spec)
    await run_in_threadpool(_require_room, context)
    if validate_only:
        return await _preflight(context, request, spec)
    return await run_in_threadpool(_start, context, response, spec, idempotency_key, caller_of(request))


def _require_webhook(context: Context, spec: JobSpec) -> None:
    settings = context.settings
    require_deliverable(spec, secret=settings.webhook_secret is not None, private=settings.webhook_private)


def _require_room(context: Context) -> None:
    """Raise QueueFull if no more tasks should wait."""
    waiting = sum(context.queue.depth().values())
    if waiting >= context.settings.max_waiting_tasks:
        raise QueueFull(f"{waiting:,} tasks wait already; post the job later", retry_after=60)


def _start(context: Context, response: Response, spec: JobSpec, idempotency_key: str | None, name: str | None) -> Job:
    key = idempotency_key.strip('"') if idempotency_key else None
    caller = Caller(name, context.settings.max_open_jobs) if name else None
    job = context.store.create(spec, new_job_id(), key, caller)
    log.info("job accepted", job=job.id)
    if job.status is JobStatus.QUEUED:
        context.queue.enqueue_prepare(job.id)
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    response.headers["Retry-After"] = RETRY_AFTER_SECONDS
    return linked(job)


@router.get("", responses=examples.answers(examples.JOBS))
def list_jobs(
    context: Ctx,
    page_size: Annotated[int, Query(ge=1, description=f"cut to {MAX_PAGE}")] = 20,
    page_token: Annotated[str | None, Query(max_length=500, description="next_page_token of the page before")] = None,
    status: JobStatus | None = None,
) -> JobPage:
    """List jobs, newest first."""
    page = context.store.page(page_size, page_token, status)
    return JobPage(jobs=[linked(job) for job in page.jobs], next_page_token=page.next_page_token)


@router.get(
    "/{job_id}",
    response_model=Job,
    responses={**examples.answers(examples.JOB), 304: {"description": "Not changed since If-None-Match"}},
)
async def get_job(
    context: Ctx,
    request: Request,
    job_id: JobId,
    wait: Annotated[int, Query(ge=0, description="seconds to wait for a change, 60 at most")] = 0,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Look at a job.

    With `wait`, the answer is held until the job is another than `If-None-Match` says, or, without that header, until
    it has ended; at the latest until the time is over.
    """
    etag = await _held(context, request, job_id, min(wait, MAX_WAIT_SECONDS), if_none_match)
    if etag == if_none_match:
        return Response(status_code=304, headers={"ETag": etag, "Retry-After": RETRY_AFTER_SECONDS})
    job = await run_in_threadpool(context.store.get, job_id)
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    if job.status not in TERMINAL:
        headers["Retry-After"] = RETRY_AFTER_SECONDS
    return Response(linked(job).model_dump_json(), headers=headers, media_type="application/json")


@router.post("/{job_id}/cancel", status_code=202, responses=examples.answers(examples.JOB, 202))
def cancel_job(context: Ctx, background: BackgroundTasks, job_id: JobId) -> Job:
    """Stop a job. Parts that are written stay, so the same spec posted again goes on from there."""
    job = context.store.request_cancel(job_id)
    background.add_task(context.queue.settle, job_id)  # after the answer: 16,000 tasks take seconds
    return linked(job)


@router.delete("/{job_id}", status_code=204, responses=examples.PROBLEMS)
def delete_job(context: Ctx, background: BackgroundTasks, job_id: JobId) -> None:
    """Delete a job that has ended: its record, its result, its selections, and its scores unless another job uses them.

    The job is gone with the answer; its files go in the seconds after.
    """
    context.store.delete(job_id)
    background.add_task(Retention(context.store, context.queue, context.storage).clean, job_id)


@router.get("/{job_id}/result", response_model=Manifest, responses=examples.answers(examples.MANIFEST))
def get_result(context: Ctx, job_id: JobId) -> Response:
    """Return the manifest: every file with its rows, size and sha256, and how the scores were made."""
    require_success(context, job_id)
    manifest = context.storage.read(f"jobs/{job_id}/manifest.json")
    return Response(manifest, media_type="application/json")


@router.get(
    "/{job_id}/report",
    response_class=Response,
    responses={**examples.PROBLEMS, 200: {"content": {"text/html": {"example": "<!doctype html>..."}}}},
)
def get_report(context: Ctx, job_id: JobId) -> Response:
    """Return the report, an HTML page without outside parts."""
    require_success(context, job_id)
    return Response(context.storage.read(f"jobs/{job_id}/report.html"), media_type="text/html; charset=utf-8")


def require_success(context: Context, job_id: str) -> Job:
    """Return the job. Raises NotFound, and Conflict until it has succeeded."""
    job = context.store.get(job_id)
    if job.status is not JobStatus.SUCCEEDED:
        raise Conflict(f"job {job_id} is {job.status.value}; there is a result when it has succeeded", id=job_id)
    return job


def linked(job: Job) -> Job:
    """Add the addresses that make sense in the job's state, and take out the secrets that its spec's URIs hold."""
    base = f"/v1/jobs/{job.id}"
    links = {"self": base, "events": f"{base}/events", "page": f"/jobs/{job.id}"}
    if job.status not in TERMINAL:
        links["cancel"] = f"{base}/cancel"
    if job.status is JobStatus.SUCCEEDED:
        links |= {name: f"{base}/{name}" for name in ("result", "report", "selections", "scores")}
        links |= {"evaluation": f"{base}/evaluation"} if job.spec.evaluate else {}
    return redact_model(job).model_copy(update={"links": links})


async def _preflight(context: Context, request: Request, spec: JobSpec) -> Response:
    """Wait for a worker's answer. Raises what it found wrong, and Unavailable if there is none in time."""
    deadline = time.monotonic() + context.settings.check_seconds
    while (found := await run_in_threadpool(context.queue.check, spec, payer_of(request.scope))) is None:
        if time.monotonic() >= deadline or await request.is_disconnected():
            if await run_in_threadpool(context.queue.check_runs, spec):
                raise Unavailable("the check takes longer; the same request again waits for it", check="running")
            raise Unavailable(
                "all workers are busy; the check is the next task that one takes, and the same request again waits "
                "for it",
                check="waiting",
            )
        await anyio.sleep(CHECK_POLL_SECONDS)
    return Response(Preflight.model_validate(found).model_dump_json(), media_type="application/json")


async def _held(context: Context, request: Request, job_id: str, wait: int, known: str | None) -> str:
    """Wait as asked. Returns the ETag of a state that the job has or had a moment ago."""
    deadline = time.monotonic() + wait
    while True:
        version, status = await run_in_threadpool(context.store.peek, job_id)
        if status is JobStatus.CANCELLING and await run_in_threadpool(context.queue.settle, job_id):
            continue
        etag = f'W/"{version}"'
        changed = etag != known if known else status in TERMINAL
        if changed or status in TERMINAL or time.monotonic() >= deadline or await request.is_disconnected():
            return etag
        await anyio.sleep(min(POLL_SECONDS, max(0.0, deadline - time.monotonic())))
