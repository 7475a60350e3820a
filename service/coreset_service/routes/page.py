"""Pages for browsers: the list of jobs, a job, and the form for a new one. Their scripts are in static/."""

from datetime import UTC, datetime

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, HTMLResponse

from coreset.errors import NotFound
from coreset.queue.progress import prepare_seconds_left
from coreset.schemas.job import TERMINAL, JobStatus
from coreset.spec.rule_words import describe_rule
from coreset.spec.scores import DEFAULT_SCORES, SCORES
from coreset.spec.selection import RECIPE
from coreset_service.dependencies import Ctx, JobId
from coreset_service.html_pages import STATIC, render
from coreset_service.job_links import with_links
from coreset_service.outcome import downloads, outcome_of
from coreset_service.selection_pages import selection_page

router = APIRouter(include_in_schema=False)

JOBS_SHOWN = 50
SELECTIONS_SHOWN = 20
RANKINGS = {"": f"the recipe {RECIPE}", "diffin clip_score": "Diff-In and CLIP score together"} | {
    score.value: SCORES[score].label for score in DEFAULT_SCORES
}


@router.get("/", response_class=HTMLResponse)
def jobs_page(context: Ctx, request: Request, part: bool = False) -> Response:
    jobs = [with_links(job) for job in context.store.listing.page(JOBS_SHOWN).jobs]
    return render(
        request, "_jobs.html" if part else "jobs.html", {"jobs": jobs, "waiting": context.queue.census.waiting_counts()}
    )


@router.get("/new", response_class=HTMLResponse)
def newrender(request: Request) -> Response:
    return render(request, "new.html", {"rankings": RANKINGS})


@router.get("/jobs/{job_id}", response_class=HTMLResponse)
def job_page(context: Ctx, request: Request, job_id: JobId, part: bool = False) -> Response:
    job = context.store.get(job_id)
    if job.status is JobStatus.CANCELLING and context.queue.finish_cancel(job_id):
        job = context.store.get(job_id)
    outcome = outcome_of(context.storage, job)
    values: dict[str, object] = {
        "job": with_links(job),
        "ended": job.status in TERMINAL,
        "outcome": outcome,
        "files": downloads(job_id, outcome.selection) if outcome else {},
        "preparing_left": prepare_seconds_left(job, datetime.now(UTC)),
    }
    return render(request, "_job.html" if part else "job.html", values)


@router.get("/jobs/{job_id}/selections", response_class=HTMLResponse)
def selections_part(context: Ctx, request: Request, job_id: JobId) -> Response:
    """Return the newest selections of a job, as a part of its page."""
    context.store.get(job_id)
    page = selection_page(context.storage, job_id, SELECTIONS_SHOWN)
    rows = [(each, describe_rule(each.spec), downloads(job_id, each)) for each in page.selections]
    return render(request, "_selections.html", {"rows": rows, "more": page.next_page_token is not None})


@router.get("/static/{name}")
def static_file(name: str) -> Response:
    """Return a script or the style sheet. The browser revalidates it, so that a new version is used at once."""
    if name not in STATIC:
        raise NotFound(f"there is no static file {name}", name=name)
    return FileResponse(STATIC[name], headers={"Cache-Control": "no-cache"})
