"""Pages of a job's samples: the good ones sorted by a score, or the bad ones of one status."""

from typing import Any, cast

import duckdb

from coreset.browsing.sample_views import SampleViews
from coreset.errors import InvalidInput
from coreset.queue.page_tokens import decode_values, encode_values
from coreset.schemas.manifest import Selection
from coreset.schemas.part import SampleStatus
from coreset.schemas.plan import Plan
from coreset.schemas.sample import MAX_PAGE_SAMPLES, Order, SamplePage
from coreset.selection.ranking import open_samples
from coreset.storage.layout import JobFolder
from coreset.storage.storage import Storage


def sample_page(
    storage: Storage, plan: Plan, selection: Selection, order: Order, size: int, token: str | None = None
) -> SamplePage:
    """Return a page of samples, MAX_PAGE_SAMPLES at most, and the token of the next one.

    Args:
        selection: decides `kept` of each sample.
        token: next_page_token of the previous page.

    Raises:
        InvalidInput: the samples do not have this score, or the token belongs to another query.
    """
    if order.by is not None and (order.by not in plan.scores or order.status is not SampleStatus.OK):
        raise InvalidInput(
            f"samples with status {order.status} cannot be sorted by {order.by}, which they lack; leave `by` out",
            field="by",
        )
    size, made_for = min(size, MAX_PAGE_SAMPLES), f"{plan.id}/{order.model_dump_json()}"
    after = _after(decode_values(token, made_for)) if token else None
    with open_samples(storage, plan, order.status) as db:
        rows = _rows(db, order, size + 1, after)
        kept = _kept(db, storage, selection, [row["uid"] for row in rows])
    shown = rows[:size]
    return SamplePage(
        samples=SampleViews(storage, plan)([{**row, "kept": row["uid"] in kept} for row in shown]),
        next_page_token=encode_values(_position(order, shown[-1]), made_for) if len(rows) > size else None,
    )


def _position(order: Order, row: dict[str, Any]) -> list[Any]:
    return [row[order.by.value] if order.by else 0, row["uid"], row["place"]]


def _after(values: list[Any]) -> list[Any]:
    try:
        value, uid, place = values
        number, row = float(value), int(place)
        name = str(uid).encode().decode()
    except (ValueError, TypeError, OverflowError) as error:
        raise _no_token() from error
    if not abs(row) < 2**63:
        raise _no_token()
    return [number, name, row]


def _no_token() -> InvalidInput:
    return InvalidInput("page_token is not a token of this service; leave it out to start again", field="page_token")


def _rows(db: duckdb.DuckDBPyConnection, order: Order, limit: int, after: list[Any] | None) -> list[dict[str, Any]]:
    value = order.by.value if order.by else "0::FLOAT"
    later, way = (">", "ASC") if order.ascending else ("<", "DESC")
    where, values = "true", list[Any]()
    if after:
        where = f"({value} {later} $1::FLOAT OR ({value} = $1::FLOAT AND (uid, place) > ($2, $3)))"
        values += after
    if order.caption:
        values.append(order.caption)
        where += f" AND contains(lower(caption), lower(${len(values)}))"
    found = db.execute(f"SELECT * FROM samples WHERE {where} ORDER BY {value} {way}, uid, place LIMIT {limit}", values)
    names = [column[0] for column in found.description]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def _kept(db: duckdb.DuckDBPyConnection, storage: Storage, selection: Selection, uids: list[str]) -> set[str]:
    db.register("subset", storage.parquet([JobFolder(selection.job_id).selection(selection.id).subset]))
    found = db.execute("SELECT uid FROM subset WHERE list_contains($1::VARCHAR[], uid)", [uids]).fetchall()
    return {cast(str, uid) for (uid,) in found}
