"""OpenAPI description of the service: FastAPI's, with one Problem model for all errors and the webhook of jobs.

`make api-docs` writes it to docs/openapi.json.
"""

import json
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, cast

from fastapi import Body, FastAPI
from fastapi.encoders import jsonable_encoder

from coreset_service.api_docs import examples
from coreset_service.http.problems import MEDIA_TYPE
from coreset_service.webhooks import WebhookBody

_PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": "RFC 9457; each type has members of its own beside these (docs/problems.md)",
    "required": ["type", "title", "status", "detail", "request_id"],
    "properties": {
        "type": {"type": "string", "description": "an address of this service that says more"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "what is wrong and the way out"},
        "request_id": {"type": "string", "description": "also in X-Request-ID and in the log"},
    },
    "additionalProperties": True,
}


def describe(app: FastAPI) -> None:
    """Make `app.openapi()` return the completed description. Call it after the last route was added."""
    app.webhooks.post("job-ended", status_code=204, responses={"4XX": {}, "5XX": {}})(_job_ended)
    plain = app.openapi

    @cache
    def openapi() -> dict[str, Any]:
        description = plain()
        _share_problems(description)
        _restore_nulls(description, {_key(example): example for example in examples.ALL})
        return description

    app.openapi = openapi  # type: ignore[method-assign]


def _job_ended(body: Annotated[WebhookBody, Body(examples=[examples.WEBHOOK])]) -> None:
    """A job has ended. Sent to the `webhook.url` of its spec, signed by Standard Webhooks; answer with 2xx."""


def _share_problems(description: dict[str, Any]) -> None:
    components = description["components"]
    components["schemas"]["Problem"] = _PROBLEM
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "example": examples.PROBLEM}}
    components["responses"] = {"Problem": {"description": "A problem", "content": content}}
    for operations in description["paths"].values():
        for operation in operations.values():
            for status in {"4XX", "5XX"} & operation["responses"].keys():
                operation["responses"][status] = {"$ref": "#/components/responses/Problem"}


def _restore_nulls(node: Any, whole: Mapping[str, Any]) -> None:
    """Restore the nulls of our examples, which FastAPI removes."""
    if not isinstance(node, dict | list):
        return
    members = cast(dict[str, Any], node) if isinstance(node, dict) else {}
    if "example" in members:
        members["example"] = whole.get(_key(members["example"]), members["example"])
    if isinstance(members.get("examples"), list):
        members["examples"] = [whole.get(_key(example), example) for example in members["examples"]]
    for inner in members.values() if members else cast(list[Any], node):
        _restore_nulls(inner, whole)


def _key(example: Any) -> str:
    return json.dumps(jsonable_encoder(example, exclude_none=True))
