"""Problem types and their error classes, for those who write problems (service, workers) and those who read them."""

import json
from collections.abc import Mapping
from typing import Any

from coreset.errors import CoresetError


def error_classes() -> dict[str, type[CoresetError]]:
    """Return every problem type and its class."""
    found: dict[str, type[CoresetError]] = {}
    waiting: list[type[CoresetError]] = [CoresetError]
    while waiting:
        cls = waiting.pop()
        found[cls.type] = cls
        waiting += cls.__subclasses__()
    return found


def to_problem(error: CoresetError) -> dict[str, Any]:
    """Return the error as JSON: type, detail and data. What JSON does not know in the data becomes a string."""
    return {"type": error.type, "detail": error.detail, "data": json.loads(json.dumps(error.data, default=str))}


def from_problem(problem: Mapping[str, Any]) -> CoresetError:
    """Return the error that `to_problem` has written; one of a type of another version is a CoresetError."""
    cls = error_classes().get(str(problem["type"]), CoresetError)
    return cls(str(problem["detail"]), **problem["data"])
