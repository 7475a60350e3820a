"""Pages of a job's selections, newest first."""

from collections.abc import Iterator
from contextlib import suppress

from coreset.errors import DamagedFile, NotFound
from coreset.queue.page_tokens import Position, decode_token, encode_token
from coreset.schemas.manifest import Selection, SelectionPage
from coreset.storage.layout import JobFolder
from coreset.storage.storage import Storage
from coreset.storage.verified import load_json


def selection_page(storage: Storage, job_id: str, size: int, token: str | None = None) -> SelectionPage:
    """Return a page of `size` selections at most, and the token of the next one.

    Args:
        token: next_page_token of the previous page.
    """
    after = decode_token(token, job_id) if token else None
    found = sorted(((_position(each), each) for each in _all(storage, job_id)), key=lambda each: each[0], reverse=True)
    left = [each for each in found if after is None or each[0] < after]
    page = left[:size]
    more = encode_token(page[-1][0], job_id) if len(left) > len(page) else None
    return SelectionPage(selections=[selection for _, selection in page], next_page_token=more)


def _position(selection: Selection) -> Position:
    return Position(selection.created_at.timestamp(), selection.id)


def _all(storage: Storage, job_id: str) -> Iterator[Selection]:
    """Yield the selections that are complete: their selection.json is written last."""
    folder = JobFolder(job_id)
    for name in storage.names(folder.selections):
        path = folder.selection(name).selection
        with suppress(NotFound, DamagedFile):  # a selection that is posted again is made again
            yield load_json(storage, path, Selection.model_validate_json)
