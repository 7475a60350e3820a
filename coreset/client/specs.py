"""Job specs on the caller's side."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from coreset.errors import InvalidSpec
from coreset.spec.job import JobSpec


def validate_spec(body: Any) -> JobSpec:
    """Check a job spec on this side already.

    Raises:
        InvalidSpec: names the field of the first mistake; `errors` has all.
    """
    try:
        return JobSpec.model_validate(body)
    except ValidationError as error:
        errors = [
            {"field": ".".join(map(str, mistake["loc"])), "message": mistake["msg"].removeprefix("Value error, ")}
            for mistake in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        told = "; ".join(f"{mistake['field'] or 'spec'}: {mistake['message']}" for mistake in errors)
        raise InvalidSpec(f"the job spec is not valid: {told}", errors=errors) from error


def plain(spec: BaseModel | Mapping[str, Any]) -> dict[str, Any]:
    """Return a spec as JSON values: what was set in it alone, so that for all else the service's defaults count."""
    return spec.model_dump(mode="json", exclude_unset=True) if isinstance(spec, BaseModel) else dict(spec)
