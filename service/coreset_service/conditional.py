"""Conditional requests: ETags of answers that never change."""

import hashlib
from typing import Annotated, Any

from fastapi import Header, Response

IfNoneMatch = Annotated[str | None, Header()]
NOT_MODIFIED: dict[int | str, dict[str, Any]] = {304: {"description": "Not changed since If-None-Match"}}


def content_etag(body: bytes) -> str:
    """Return the ETag of a body."""
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def not_modified(etag: str, if_none_match: str | None) -> Response | None:
    """Return 304 if the caller has this version already, else None."""
    tags = {tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")}
    return Response(status_code=304, headers=cache_headers(etag)) if etag in tags or "*" in tags else None


def cache_headers(etag: str) -> dict[str, str]:
    """Return the headers of an answer that does not change for as long as its job exists."""
    return {"ETag": etag, "Cache-Control": "private, max-age=3600"}
