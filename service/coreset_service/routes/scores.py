"""Scores: the rows of a job's parts, for some samples, a shard or a range, or all of them."""

from collections.abc import Iterator
from itertools import chain
from typing import Annotated, get_args

from fastapi import APIRouter, Header, HTTPException, Query
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from coreset.browsing.score_query import Format, RowsWanted
from coreset.browsing.score_rows import rows
from coreset.schemas.plan import Plan
from coreset.storage.storage import Storage
from coreset_service.api_docs import examples
from coreset_service.dependencies import COSTLY, Ctx
from coreset_service.routes.jobs import JobId
from coreset_service.routes.selections import plan_of

router = APIRouter(prefix="/v1/jobs/{job_id}/scores", tags=["scores"])

MEDIA_TYPES: dict[str, Format] = {
    "application/x-ndjson": "ndjson",
    "application/json": "ndjson",
    "text/csv": "csv",
    "application/vnd.apache.parquet": "parquet",
    "application/vnd.apache.arrow.stream": "arrow",
}
NAMES: dict[Format, str] = {kind: f"scores.{kind}" for kind in get_args(Format)}


@router.get(
    "",
    response_class=StreamingResponse,
    dependencies=[COSTLY],
    responses={
        200: {
            "description": "The rows, in the order of the pool",
            "content": {
                "application/x-ndjson": {"example": examples.ROW},
                **{kind: {} for kind in MEDIA_TYPES if kind not in ("application/x-ndjson", "application/json")},
            },
        },
        **examples.PROBLEMS,
    },
)
async def get_scores(
    context: Ctx,
    job_id: JobId,
    wanted: Annotated[RowsWanted, Query()],
    accept: Annotated[str, Header()] = "*/*",
) -> StreamingResponse:
    """Stream rows of the parts: who the sample is, its status, its scores. Bad samples are there too, without scores.

    What is given holds together: `uid=...&uid=...` for some samples, each of which must be there; `shard=000000.tar`;
    `uid_from=ab&uid_to=ab` for those whose uid starts so; `score=diffin&min=0&max=1` for a range of values. `Accept`
    decides the form: NDJSON, CSV, Parquet or an Arrow stream; `format` does it where a header cannot be set.
    """
    kind = wanted.format or _accepted(accept)
    plan = await run_in_threadpool(plan_of, context, job_id)
    pieces = await run_in_threadpool(_pieces, context.storage, plan, wanted, kind)
    media_type = next(name for name, form in MEDIA_TYPES.items() if form == kind)
    headers = {"Content-Disposition": f'inline; filename="{NAMES[kind]}"', "Vary": "Accept"}
    return StreamingResponse(pieces, media_type=media_type, headers=headers)


def _accepted(accept: str) -> Format:
    """Return the form that an Accept header likes best. Raises 406 if it likes none."""
    liked = sorted(filter(None, map(_liked, (accept or "*/*").split(","))), key=lambda each: -each[1])
    for name, _ in liked:
        if name in MEDIA_TYPES:
            return MEDIA_TYPES[name]
        if name in ("*/*", "application/*"):
            return "ndjson"
        if name == "text/*":
            return "csv"
    raise HTTPException(406)


def _liked(item: str) -> tuple[str, float] | None:
    """Return a media type of an Accept header and how much it is liked, None if not at all."""
    name, *parameters = (piece.strip().lower() for piece in item.split(";"))
    quality = next((p.removeprefix("q=") for p in parameters if p.startswith("q=")), "1")
    try:
        return (name, float(quality)) if float(quality) > 0 else None
    except ValueError:
        return name, 1.0


def _pieces(storage: Storage, plan: Plan, wanted: RowsWanted, kind: Format) -> Iterator[bytes]:
    """Return the pieces; the first is made now, so that what is wrong is an answer of its own."""
    found = rows(storage, plan, wanted, kind)
    return chain([next(found, b"")], found)
