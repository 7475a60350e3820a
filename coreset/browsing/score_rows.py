"""Streaming export of the rows of a plan's parts, bad samples too, by uid, shard or range."""

from collections.abc import Iterator

import duckdb

from coreset.browsing.export_formats import encode_rows
from coreset.browsing.score_query import Format, ScoreQuery
from coreset.errors import InvalidInput, NotFound
from coreset.schemas.part import part_schema
from coreset.schemas.plan import Plan
from coreset.selection.ranking import open_parts
from coreset.storage.storage import Storage

MAX_NAMED = 20
"""Largest number of uids that an error names."""


def export_scores(storage: Storage, plan: Plan, wanted: ScoreQuery, kind: Format) -> Iterator[bytes]:
    """Yield the pieces of a file of that format with the rows in the order of the pool.

    Raises, at the first piece:
        NotFound: a uid or the shard does not exist.
        InvalidInput: a column or the score does not exist.
    """
    columns = _columns(wanted, part_schema(plan).names)
    if wanted.score is not None and wanted.score not in plan.scores:
        raise InvalidInput(f"the job has not computed {wanted.score}; it has {', '.join(plan.scores)}", field="score")
    with open_parts(storage, plan, _shards(plan, wanted)) as db:
        db.execute("SET preserve_insertion_order = true")
        _require_uids(db, wanted.uid)
        conditions = wanted.conditions()
        where = " AND ".join(sql for sql, _ in conditions) or "true"
        limit = f"LIMIT {wanted.limit}" if wanted.limit else ""
        source = f"FROM parts WHERE {where} {limit}"
        yield from encode_rows(db, kind, columns, source, [value for _, value in conditions])


def _shards(plan: Plan, wanted: ScoreQuery) -> list[int] | None:
    """Return the shards to read, None for all. Raises NotFound if no shard has that name."""
    if wanted.shard is None:
        return None
    indices = [shard.index for shard in plan.shards if shard.name == wanted.shard]
    if not indices:
        raise NotFound(f"the pool has no shard {wanted.shard}", shard=wanted.shard)
    return indices


def _columns(wanted: ScoreQuery, existing: list[str]) -> list[str]:
    if wanted.fields is None:
        return [name for name in existing if not name.endswith("_by_checkpoint")]
    columns = [field.strip() for field in wanted.fields.split(",")]
    unknown = [column for column in columns if column not in existing]
    if unknown:
        raise InvalidInput(
            f"unknown fields {', '.join(unknown)}; expected some of {', '.join(existing)}", field="fields"
        )
    return list(dict.fromkeys(columns))


def _require_uids(db: duckdb.DuckDBPyConnection, uids: list[str]) -> None:
    if not uids:
        return
    query = "SELECT DISTINCT uid FROM parts WHERE list_contains(?::VARCHAR[], uid)"
    found = {uid for (uid,) in db.execute(query, [uids]).fetchall()}
    missing = [uid for uid in uids if uid not in found]
    if missing:
        more = f" and {len(missing) - MAX_NAMED:,} more" if len(missing) > MAX_NAMED else ""
        message = f"this job has no sample with uid {', '.join(missing[:MAX_NAMED])}{more}"
        raise NotFound(message, uids=missing[:MAX_NAMED])
