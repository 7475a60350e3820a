"""Members of a WebDataset sample that decide its uid: the image and the json member's object."""

import json
from collections.abc import Mapping
from typing import Any, TypeVar, cast

T = TypeVar("T")

IMAGE_EXTENSIONS = ("jpg", "png", "jpeg", "webp")

MAX_JSON_BYTES = 16 * 2**20
"""Largest json member that is read: one of 256 MB can become 10 GB of Python objects."""


def image_of(members: Mapping[str, T]) -> T | None:
    """Return the first member among jpg, png, jpeg, webp."""
    return next((members[extension] for extension in IMAGE_EXTENSIONS if extension in members), None)


def metadata_of(members: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the json member's object, {} if there is no such member, None if it cannot be read."""
    data = members.get("json")
    if data is None:
        return {}
    if len(data) > MAX_JSON_BYTES:
        return None
    try:
        value: Any = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return cast(dict[str, Any], value) if isinstance(value, dict) else None
