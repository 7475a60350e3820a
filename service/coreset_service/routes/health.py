"""Health, readiness, metrics, versions and problem types, for load balancers and operators."""

import platform

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from coreset import __version__
from coreset.errors import NotFound
from coreset.schemas.plan import SCORING_VERSION
from coreset_service.dependencies import Ctx
from coreset_service.http import problems
from coreset_service.http.problem_texts import TEXTS

router = APIRouter(include_in_schema=False)


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Answer that the process is alive, without asking Redis or the storage."""
    return {"status": "ok"}


@router.get("/readyz")
def readyz(context: Ctx) -> dict[str, object]:
    """Answer that Redis takes writes, and the storage is reachable. Without workers it is ready too: jobs wait.

    Redis is written to once in three seconds at most, for all callers.
    """
    context.takes_writes()
    context.storage.exists("jobs")
    waiting, running = context.queue.census.waiting_counts(), context.queue.census.running_counts()
    tasks = sum(waiting.values()) + sum(running.values())
    return {
        "status": "ok",
        "waiting": waiting,
        "running": running,
        "tasks": tasks,
        "workers": context.queue.workers.count(),
    }


@router.get("/metrics")
def metrics(context: Ctx) -> Response:
    """Return the metrics of this process and of the whole system, for Prometheus (coreset_service.metrics)."""
    return Response(generate_latest(context.metrics), media_type=CONTENT_TYPE_LATEST)


@router.get("/version")
async def version() -> dict[str, object]:
    return {"version": __version__, "scoring_version": SCORING_VERSION, "python": platform.python_version()}


@router.get("/problems")
async def problem_types() -> dict[str, dict[str, object]]:
    """List all problem types."""
    return {slug: {"title": title, "status": status} for slug, (title, status) in problems.all_types().items()}


@router.get("/problems/{slug}")
async def problem_type(slug: str) -> JSONResponse:
    """Explain one problem type."""
    types = problems.all_types()
    if slug not in types:
        raise NotFound(f"unknown problem type {slug!r}; GET /problems lists them", slug=slug)
    title, status = types[slug]
    text = TEXTS[slug]
    body = {"type": f"/problems/{slug}", "title": title, "status": status, "when": text.when, "what_to_do": text.mend}
    return JSONResponse({**body, "members": text.members} if text.members else body)
