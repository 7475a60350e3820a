"""Probes for load balancers and operators, metrics, version, and the meaning of problem types."""

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
    """Answer while the process runs; Redis and the storage are not asked."""
    return {"status": "ok"}


@router.get("/readyz")
def readyz(context: Ctx) -> dict[str, object]:
    """Redis takes writes and the storage answers. A service without workers is ready: it takes jobs that wait."""
    context.store.probe()
    context.storage.exists("jobs")
    waiting, running = context.queue.depth(), context.queue.leased()
    tasks = sum(waiting.values()) + sum(running.values())
    return {"status": "ok", "waiting": waiting, "running": running, "tasks": tasks, "workers": context.queue.workers()}


@router.get("/metrics")
def metrics(context: Ctx) -> Response:
    """For Prometheus: this process's requests, and all jobs, tasks and workers (coreset_service.metrics)."""
    return Response(generate_latest(context.metrics), media_type=CONTENT_TYPE_LATEST)


@router.get("/version")
async def version() -> dict[str, object]:
    return {"version": __version__, "scoring_version": SCORING_VERSION, "python": platform.python_version()}


@router.get("/problems")
async def problem_types() -> dict[str, dict[str, object]]:
    """All problem types."""
    return {slug: {"title": title, "status": status} for slug, (title, status) in problems.all_types().items()}


@router.get("/problems/{slug}")
async def problem_type(slug: str) -> JSONResponse:
    """What one problem type means."""
    types = problems.all_types()
    if slug not in types:
        raise NotFound(f"unknown problem type {slug!r}; GET /problems lists all", slug=slug)
    title, status = types[slug]
    text = TEXTS[slug]
    said = {"type": f"/problems/{slug}", "title": title, "status": status, "when": text.when, "what_to_do": text.mend}
    return JSONResponse({**said, "members": text.members} if text.members else said)
