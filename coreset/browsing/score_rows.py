"""Rows of a plan's parts, bad samples too, as somebody asks for them: some uids, a shard, a range; streamed."""

from collections.abc import Iterator

import duckdb

from coreset.browsing.export_formats import pieces
from coreset.browsing.score_query import Format, RowsWanted
from coreset.errors import InvalidInput, NotFound
from coreset.schemas.part import part_schema
from coreset.schemas.plan import Plan
from coreset.selection.ranking import open_parts
from coreset.storage.storage import Storage

NAMED_AT_MOST = 20


def rows(storage: Storage, plan: Plan, wanted: RowsWanted, kind: Format) -> Iterator[bytes]:
    """Yield the rows in the order of the pool, in pieces of a file of that kind.

    Raises:
        NotFound: at the first piece; a uid is not there, or the shard.
        InvalidInput: at the first piece; there is no such column.
    """
    columns = _columns(wanted, part_schema(plan).names)
    if wanted.score is not None and wanted.score not in plan.scores:
        raise InvalidInput(f"the job has not computed {wanted.score}; it has {', '.join(plan.scores)}", field="score")
    with open_parts(storage, plan, _shards(plan, wanted)) as db:
        db.execute("SET preserve_insertion_order = true")
        _require_there(db, wanted.uid)
        conditions = wanted.conditions()
        where = " AND ".join(sql for sql, _ in conditions) or "true"
        limit = f"LIMIT {wanted.limit}" if wanted.limit else ""
        source = f"FROM parts WHERE {where} {limit}"
        yield from pieces(db, kind, columns, source, [value for _, value in conditions])


def _shards(plan: Plan, wanted: RowsWanted) -> list[int] | None:
    """Return which shards to look at, None for all. Raises NotFound if there is none of that name."""
    if wanted.shard is None:
        return None
    found = [shard.index for shard in plan.shards if shard.uri.rsplit("/", 1)[-1] == wanted.shard]
    if not found:
        raise NotFound(f"the pool has no shard {wanted.shard}", shard=wanted.shard)
    return found


def _columns(wanted: RowsWanted, there: list[str]) -> list[str]:
    if wanted.fields is None:
        return [name for name in there if not name.endswith("_by_checkpoint")]
    columns = [field.strip() for field in wanted.fields.split(",")]
    unknown = [column for column in columns if column not in there]
    if unknown:
        raise InvalidInput(f"there is no {', '.join(unknown)}; there are {', '.join(there)}", field="fields")
    return list(dict.fromkeys(columns))


def _require_there(db: duckdb.DuckDBPyConnection, uids: list[str]) -> None:
    if not uids:
        return
    query = "SELECT DISTINCT uid FROM parts WHERE list_contains(?::VARCHAR[], uid)"
    found = {uid for (uid,) in db.execute(query, [uids]).fetchall()}
    missing = [uid for uid in uids if uid not in found]
    if missing:
        more = f" and {len(missing) - NAMED_AT_MOST:,} more" if len(missing) > NAMED_AT_MOST else ""
        told = f"this job has no sample with uid {', '.join(missing[:NAMED_AT_MOST])}{more}"
        raise NotFound(told, uids=missing[:NAMED_AT_MOST])
