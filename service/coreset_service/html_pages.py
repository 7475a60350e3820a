"""HTML pages: templates, static files and the content security policy."""

from pathlib import Path
from typing import Any, cast

from fastapi import Request, Response
from fastapi.templating import Jinja2Templates
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from coreset import web
from coreset.spec.job_words import describe_briefly, describe_job
from coreset_service.http.auth import caller_of

HERE = Path(__file__).parent
TEMPLATES = HERE / "templates"
STATIC = {path.name: path for folder in (web.FOLDER, HERE / "static") for path in folder.glob("*.*s")}
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""No script but our files: captions come from the web, and must stay text whatever they contain."""


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


_environment = Environment(
    loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)
cast(dict[str, Any], _environment.filters).update(  # pyright: ignore[reportUnknownMemberType]
    duration=_duration, facts=describe_job, briefly=describe_briefly
)
_templates = Jinja2Templates(env=_environment)


def render(request: Request, template: str, values: dict[str, object]) -> Response:
    """Return a template's page. The template also gets `caller`, the name of the key in use, or None."""
    return secured(_templates.TemplateResponse(request, template, {"caller": caller_of(request), **values}))


def secured(page: Response) -> Response:
    """Return a page with the policy, and never cached, since its content depends on the caller."""
    page.headers["Content-Security-Policy"] = POLICY
    page.headers["Cache-Control"] = "no-store"
    return page
