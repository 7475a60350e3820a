"""The service's answers as models, or as the errors that they tell of."""

from typing import Any, TypeVar, cast

import httpx
from pydantic import BaseModel

from coreset.errors import CoresetError, InvalidInput, NotFound, Unavailable
from coreset.schemas.problems import error_classes

STANDARD = {"type", "title", "status", "detail"}

Model = TypeVar("Model", bound=BaseModel)


def read(model: type[Model], answer: httpx.Response) -> Model:
    """Return the answer's body. Fields that a later service has added are left out."""
    return model.model_validate_json(answer.content, extra="ignore")


def checked(answer: httpx.Response) -> httpx.Response:
    """Return the answer, or raise what it says."""
    if answer.status_code < 400:
        return answer
    try:
        problem = cast(dict[str, Any], answer.json())
        slug = str(problem["type"]).rsplit("/", 1)[-1]
        detail = str(problem.get("detail") or problem["title"])
    except (ValueError, KeyError, TypeError):
        raise Unavailable(f"unexpected answer {answer.status_code} from {answer.url}: is it our service?") from None
    data = {name: value for name, value in problem.items() if name not in STANDARD}
    raise _error_class(slug, answer.status_code)(detail, **data)


def retry_after(answer: httpx.Response) -> float:
    """Return the seconds that the service asks to wait for; 0 if it does not say."""
    said = answer.headers.get("Retry-After", "")
    return float(said) if said.isdigit() else 0.0


def _error_class(slug: str, status: int) -> type[CoresetError]:
    by_status = {404: NotFound, 503: Unavailable}
    return error_classes().get(slug) or by_status.get(status) or (InvalidInput if status < 500 else CoresetError)
