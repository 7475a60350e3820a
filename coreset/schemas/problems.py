"""Conversion between errors and problems: JSON with a stable type, which service, workers and client exchange."""

import json
from collections.abc import Mapping
from typing import Any

from coreset.errors import CoresetError


def error_classes() -> dict[str, type[CoresetError]]:
    """Return the error class of every problem type."""
    found: dict[str, type[CoresetError]] = {}
    waiting: list[type[CoresetError]] = [CoresetError]
    while waiting:
        cls = waiting.pop()
        found[cls.type] = cls
        waiting += cls.__subclasses__()
    return found


def to_problem(error: CoresetError) -> dict[str, Any]:
    """Return the error as JSON: type, detail and data. Data that JSON cannot represent becomes a string."""
    return {"type": error.type, "detail": error.detail, "data": json.loads(json.dumps(error.data, default=str))}


def from_problem(problem: Mapping[str, Any]) -> CoresetError:
    """Return the error of a problem; a CoresetError if the type is of another version."""
    cls = error_classes().get(str(problem["type"]), CoresetError)
    return cls(str(problem["detail"]), **problem["data"])
