"""JSON as callers write it: text to values, where a key that stands twice in an object is an error."""

import json
from typing import Any

from coreset.errors import InvalidSpec


def parse_json(text: str | bytes) -> Any:
    """Return the parsed text.

    Raises:
        InvalidSpec: a key stands twice in one object; Python would take the last without a word.
        json.JSONDecodeError: it is not JSON.
    """
    return json.loads(text, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in found if keys.count(key) > 1)[:100]
        raise InvalidSpec(f"the key {twice!r} is given twice in one object; leave one of them out", field=twice)
    return found
