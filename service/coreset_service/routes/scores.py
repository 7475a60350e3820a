"""Scores: rows of a job's parts; all, or those of some samples, of a shard or of a range."""

from collections.abc import Iterator
from itertools import chain
from typing import Annotated, get_args

from fastapi import APIRouter, Header, HTTPException, Query
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from coreset.browsing.score_query import Format, ScoreQuery
from coreset.browsing.score_rows import export_scores
from coreset.schemas.plan import Plan
from coreset.storage.storage import Storage
from coreset_service.api_docs import examples
from coreset_service.dependencies import COSTLY, Ctx, JobId, plan_of

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
    wanted: Annotated[ScoreQuery, Query()],
    accept: Annotated[str, Header()] = "*/*",
) -> StreamingResponse:
    """Stream rows of the parts: identity, status and scores of each sample. Bad samples are included, without scores.

    Conditions are combined by AND: `uid=...&uid=...` for some samples, all of which must exist; `shard=000000.tar`;
    `uid_from=ab&uid_to=ab` for a range of uids; `score=diffin&min=0&max=1` for a range of values. `Accept` decides the
    format: NDJSON, CSV, Parquet or an Arrow stream; `format` does so where a header cannot be set.
    """
    kind = wanted.format or _accepted(accept)
    plan = await run_in_threadpool(plan_of, context, job_id)
    pieces = await run_in_threadpool(_pieces, context.storage, plan, wanted, kind)
    media_type = next(name for name, form in MEDIA_TYPES.items() if form == kind)
    headers = {"Content-Disposition": f'inline; filename="{NAMES[kind]}"', "Vary": "Accept"}
    return StreamingResponse(pieces, media_type=media_type, headers=headers)


def _accepted(accept: str) -> Format:
    """Return the format that an Accept header prefers. Raises 406 if it accepts none of ours."""
    preferred = sorted(filter(None, map(_media_range, (accept or "*/*").split(","))), key=lambda each: -each[1])
    for name, _ in preferred:
        if name in MEDIA_TYPES:
            return MEDIA_TYPES[name]
        if name in ("*/*", "application/*"):
            return "ndjson"
        if name == "text/*":
            return "csv"
    raise HTTPException(406)


def _media_range(item: str) -> tuple[str, float] | None:
    """Return a media type of an Accept header and its quality; None if that is 0."""
    name, *parameters = (piece.strip().lower() for piece in item.split(";"))
    quality = next((p.removeprefix("q=") for p in parameters if p.startswith("q=")), "1")
    try:
        return (name, float(quality)) if float(quality) > 0 else None
    except ValueError:
        return name, 1.0


def _pieces(storage: Storage, plan: Plan, wanted: ScoreQuery, kind: Format) -> Iterator[bytes]:
    """Return the pieces. The first is made at once, so that an error becomes an answer instead of a broken stream."""
    pieces = export_scores(storage, plan, wanted, kind)
    return chain([next(pieces, b"")], pieces)
