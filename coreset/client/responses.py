"""Answers of the service, read as models or raised as errors."""

from typing import Any, TypeVar, cast

import httpx
from pydantic import BaseModel

from coreset.errors import CoresetError, InvalidInput, NotFound, Unavailable
from coreset.schemas.problems import error_classes

STANDARD = {"type", "title", "status", "detail"}

Model = TypeVar("Model", bound=BaseModel)


def read(model: type[Model], answer: httpx.Response) -> Model:
    """Return the answer's body as a model. Fields added by a later service are ignored."""
    return model.model_validate_json(answer.content, extra="ignore")


def raise_for_problem(answer: httpx.Response) -> httpx.Response:
    """Return the answer, or raise the error of its problem."""
    if answer.status_code < 400:
        return answer
    try:
        problem = cast(dict[str, Any], answer.json())
        slug = str(problem["type"]).rsplit("/", 1)[-1]
        detail = str(problem.get("detail") or problem["title"])
    except (ValueError, KeyError, TypeError):
        raise Unavailable(
            f"{answer.url} answered {answer.status_code}; is this the URL of a coreset service?"
        ) from None
    data = {name: value for name, value in problem.items() if name not in STANDARD}
    raise _error_class(slug, answer.status_code)(detail, **data)


def retry_after(answer: httpx.Response) -> float:
    """Return the seconds in Retry-After; 0 without it."""
    seconds = answer.headers.get("Retry-After", "")
    return float(seconds) if seconds.isdigit() else 0.0


def _error_class(slug: str, status: int) -> type[CoresetError]:
    by_status = {404: NotFound, 503: Unavailable}
    return error_classes().get(slug) or by_status.get(status) or (InvalidInput if status < 500 else CoresetError)
