"""Reference page of the API, rendered from its OpenAPI description. It loads nothing from other sites."""

import json
from typing import Any, cast

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from starlette.concurrency import run_in_threadpool

from coreset_service.api_docs.schema_words import Schema, limits_of, type_of
from coreset_service.html_pages import render

router = APIRouter(include_in_schema=False)


@router.get("/docs", response_class=HTMLResponse)
async def reference(request: Request) -> Response:
    """Return the page, rendered at the first request: the path needs no key, so it must cost nothing."""
    state = request.app.state
    if not hasattr(state, "reference"):
        state.reference = await run_in_threadpool(_rendered, request)
    rendered = cast(Response, state.reference)
    return Response(rendered.body, headers=dict(rendered.headers))


def _rendered(request: Request) -> Response:
    description = cast(Schema, request.app.openapi())
    values: dict[str, object] = {
        "description": description,
        "type_of": type_of,
        "limits_of": limits_of,
        "pretty": _pretty,
    }
    return render(request, "reference.html", values)


def _pretty(example: Any) -> str:
    return example if isinstance(example, str) else json.dumps(example, indent=2)
