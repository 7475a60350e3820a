"""Page tokens: opaque to callers, bound to the filter they were made with."""

import base64
import json
import math
from typing import Any, NamedTuple, cast

from coreset.errors import InvalidInput


class Position(NamedTuple):
    """A place in the list of jobs, in its order."""

    created_at: float
    job_id: str


def encode_token(position: Position, filter_name: str) -> str:
    return encode_values(list(position), filter_name)


def decode_token(token: str, filter_name: str) -> Position:
    """Return the last position of the page before.

    Raises:
        InvalidInput: not a token of ours, or made with another filter.
    """
    try:
        created_at, job_id = decode_values(token, filter_name)
        position = Position(float(created_at), str(job_id))
    except (ValueError, TypeError, OverflowError) as error:
        raise _no_token() from error
    if not math.isfinite(position.created_at):
        raise _no_token()
    return position


def encode_values(values: list[Any], made_for: str) -> str:
    """Return a token that says where a page ended, good for the same question only."""
    return base64.urlsafe_b64encode(json.dumps([*values, made_for]).encode()).decode().rstrip("=")


def decode_values(token: str, made_for: str) -> list[Any]:
    """Return where the page before ended.

    Raises:
        InvalidInput: not a token of ours, or made for another question.
    """
    try:
        text = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        *values, made_with = cast(list[Any], json.loads(text))
    except (ValueError, TypeError, RecursionError) as error:
        raise _no_token() from error
    if made_with != made_for:
        raise InvalidInput("page_token was made with other filters; leave it out", field="page_token")
    return values


def _no_token() -> InvalidInput:
    return InvalidInput("page_token is not a token of this service; leave it out to start again", field="page_token")
