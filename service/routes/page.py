"""Two pages for people: the list of jobs, and a job. They refresh themselves by fetching their own middle part."""

import secrets
from pathlib import Path
from typing import Any, cast

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from fastapi.templating import Jinja2Templates
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from coreset.job import TERMINAL, JobStatus
from service.context import Ctx
from service.routes.jobs import JobId, linked

router = APIRouter(include_in_schema=False)

FOLDER = Path(__file__).parents[1] / "templates"
REFRESH_SECONDS = 2
SHOWN = 50


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


_environment = Environment(loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined)
cast(dict[str, Any], _environment.filters)["duration"] = _duration  # pyright: ignore[reportUnknownMemberType]
_templates = Jinja2Templates(env=_environment)


@router.get("/", response_class=HTMLResponse)
def jobs_page(context: Ctx, request: Request, part: bool = False) -> Response:
    jobs = [linked(job) for job in context.store.page(SHOWN).jobs]
    return _page(request, "jobs", part, {"jobs": jobs, "waiting": context.queue.depth(), "ended": False})


@router.get("/jobs/{job_id}", response_class=HTMLResponse)
def job_page(context: Ctx, request: Request, job_id: JobId, part: bool = False) -> Response:
    job = context.store.get(job_id)
    if job.status is JobStatus.CANCELLING and context.queue.settle(job_id):
        job = context.store.get(job_id)
    return _page(request, "job", part, {"job": linked(job), "ended": job.status in TERMINAL})


def _page(request: Request, name: str, part: bool, values: dict[str, object]) -> Response:
    """Render the page, or only its part that changes. Scripts and styles are inline, allowed by a nonce."""
    nonce = secrets.token_urlsafe(16)
    values = {**values, "nonce": nonce, "refresh": REFRESH_SECONDS, "middle": f"_{name}.html"}
    answer = _templates.TemplateResponse(request, f"_{name}.html" if part else "page.html", values)
    own = f"'nonce-{nonce}'"
    answer.headers["Content-Security-Policy"] = (
        f"default-src 'none'; style-src {own}; script-src {own}; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    answer.headers["Cache-Control"] = "no-store"
    return answer
