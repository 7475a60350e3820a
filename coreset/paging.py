"""Page tokens: opaque to callers, bound to the filter they were made with."""

import base64
import binascii
import json
from typing import NamedTuple

from coreset.errors import InvalidInput


class Position(NamedTuple):
    """A place in the list of jobs, in its order."""

    created_at: float
    job_id: str


def encode_token(position: Position, filter_name: str) -> str:
    text = json.dumps([position.created_at, position.job_id, filter_name])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_token(token: str, filter_name: str) -> Position:
    """Return the last position of the page before.

    Raises:
        InvalidInput: not a token of ours, or made with another filter.
    """
    try:
        text = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        created_at, job_id, made_with = json.loads(text)
        position = Position(float(created_at), str(job_id))
    except (ValueError, TypeError, binascii.Error) as error:
        raise InvalidInput(
            "page_token is not a token of this service; leave it out to start again", field="page_token"
        ) from error
    if made_with != filter_name:
        raise InvalidInput("page_token was made with another status filter; leave it out", field="page_token")
    return position
