"""Pages for people: the list of jobs, a job, and a form for a new one. Their scripts are in static/."""

from pathlib import Path
from typing import Any, cast

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, HTMLResponse
from fastapi.templating import Jinja2Templates
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from coreset import web
from coreset.errors import NotFound
from coreset.schemas.job import TERMINAL, JobStatus
from coreset.spec.scores import DEFAULT_SCORES, SCORES
from coreset_service.dependencies import Ctx
from coreset_service.http.auth import caller_of
from coreset_service.routes.jobs import JobId, linked

router = APIRouter(include_in_schema=False)

HERE = Path(__file__).parents[1]
SHOWN = 50
STATIC = {path.name: path for folder in (web.FOLDER, HERE / "static") for path in folder.glob("*.*s")}
RANKINGS = {"diffin clip_score": "Diff-In and CLIP score together"} | {
    score.value: SCORES[score].label for score in DEFAULT_SCORES
}
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""No script but our files: captions come from the web, and whatever they hold is text."""


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


_environment = Environment(
    loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)
cast(dict[str, Any], _environment.filters)["duration"] = _duration  # pyright: ignore[reportUnknownMemberType]
_templates = Jinja2Templates(env=_environment)


@router.get("/", response_class=HTMLResponse)
def jobs_page(context: Ctx, request: Request, part: bool = False) -> Response:
    jobs = [linked(job) for job in context.store.listing.page(SHOWN).jobs]
    return page_of(
        request, "_jobs.html" if part else "jobs.html", {"jobs": jobs, "waiting": context.queue.census.waiting_counts()}
    )


@router.get("/new", response_class=HTMLResponse)
def newpage_of(request: Request) -> Response:
    return page_of(request, "new.html", {"rankings": RANKINGS})


@router.get("/jobs/{job_id}", response_class=HTMLResponse)
def job_page(context: Ctx, request: Request, job_id: JobId, part: bool = False) -> Response:
    job = context.store.get(job_id)
    if job.status is JobStatus.CANCELLING and context.queue.finish_cancel(job_id):
        job = context.store.get(job_id)
    ended = job.status in TERMINAL
    return page_of(request, "_job.html" if part else "job.html", {"job": linked(job), "ended": ended})


@router.get("/static/{name}")
def static_file(name: str) -> Response:
    """A script or the style sheet. The browser asks whether it has changed: a new version shows at once."""
    if name not in STATIC:
        raise NotFound(f"there is no file {name}", name=name)
    return FileResponse(STATIC[name], headers={"Cache-Control": "no-cache"})


def page_of(request: Request, template: str, values: dict[str, object]) -> Response:
    """Return a template's page. It knows the name of the key that the browser has logged in with, if keys are used."""
    answer = _templates.TemplateResponse(request, template, {"caller": caller_of(request), **values})
    answer.headers["Content-Security-Policy"] = POLICY
    answer.headers["Cache-Control"] = "no-store"
    return answer
