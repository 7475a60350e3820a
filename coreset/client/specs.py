"""Validation and serialisation of specs on the caller's side."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from coreset.errors import InvalidSpec
from coreset.spec.job import JobSpec


def validate_spec(body: Any) -> JobSpec:
    """Return a job spec, validated without asking the service.

    Raises:
        InvalidSpec: the spec is not valid; `errors` lists each field with its mistake.
    """
    try:
        return JobSpec.model_validate(body)
    except ValidationError as error:
        errors = [
            {"field": ".".join(map(str, mistake["loc"])), "message": mistake["msg"].removeprefix("Value error, ")}
            for mistake in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        details = "; ".join(f"{mistake['field'] or 'spec'}: {mistake['message']}" for mistake in errors)
        raise InvalidSpec(f"the job spec is not valid: {details}", errors=errors) from error


def plain(spec: BaseModel | Mapping[str, Any]) -> dict[str, Any]:
    """Return a spec as JSON values, without unset fields, for which the service's defaults apply."""
    return spec.model_dump(mode="json", exclude_unset=True) if isinstance(spec, BaseModel) else dict(spec)
