"""Candidates of a selection: the samples that pass its filters, with the value of each, as DuckDB tables."""

from typing import cast

import duckdb

from coreset.errors import InvalidSpec, PoolUnusable
from coreset.selection.ranking import combined_value, create_ranks, rank_terms, with_ranks
from coreset.spec.columns import CAPTION, MEASURES, METADATA, column_kind, float32
from coreset.spec.filters import Filter, label_text
from coreset.spec.selection import SelectSpec

Condition = tuple[str, object]
"""SQL with one parameter, and the parameter."""


def one_row(db: duckdb.DuckDBPyConnection, query: str, parameters: list[object] | None = None) -> tuple[float, ...]:
    """Return the only row of a query."""
    (row,) = db.execute(query, parameters or []).fetchall()  # fetchall reads to the end, which frees the connection
    return cast(tuple[float, ...], row)


def create_scored(db: duckdb.DuckDBPyConnection, spec: SelectSpec) -> int:
    """Create the table `scored` of the samples that pass the filters.

    Its columns: place, uid, the scores to rank by, the groups that they are ranked within, `label` for a quota, `own`
    for `distinct`.

    Returns:
        The number of rows that do not pass.

    Raises:
        PoolUnusable: there are no samples.
        InvalidSpec: no sample passes; its message counts those that pass each filter.
    """
    by_rank = [name for name, wanted in spec.filters.items() if wanted.by_rank]
    create_ranks(db, "samples", by_rank)
    source = with_ranks("samples", by_rank)
    conditions = {name: conditions_of(name, wanted) for name, wanted in spec.filters.items()}
    every = [condition for each in conditions.values() for condition in each]
    groups = [f'{_group(name)} AS "group_of_{score}"' for score, name in spec.rank_groups.items()]
    labels = [f"{_group(name)} AS {label}" for label, name in _labels(spec).items()]
    columns = ", ".join(["place", "uid::UUID AS uid", *spec.by, *groups, *labels])
    db.execute(
        f"CREATE TEMP TABLE scored AS SELECT {columns} FROM {source} WHERE {_all(every)}",
        [parameter for _, parameter in every],
    )
    (rows,) = one_row(db, "SELECT count(*) FROM samples")
    (passed,) = one_row(db, "SELECT count(*) FROM scored")
    if not rows:
        raise PoolUnusable("no sample has scores: all of them are bad; the job's progress counts them by reason")
    if not passed:
        alone = {name: _passed(db, source, each) for name, each in conditions.items()}
        counts = ", ".join(f"{count:,} pass {name}" for name, count in alone.items())
        raise InvalidSpec(
            f"none of {int(rows):,} samples passes all filters ({counts}); widen them", field="filters", passed=alone
        )
    return int(rows - passed)


def _labels(spec: SelectSpec) -> dict[str, str]:
    """Return the columns of a row's labels: `label`, its group of the quota, and `own`, its group of `distinct`."""
    return ({"label": spec.quota.field} if spec.quota else {}) | ({"own": spec.distinct} if spec.distinct else {})


def _passed(db: duckdb.DuckDBPyConnection, source: str, conditions: list[Condition]) -> int:
    (count,) = one_row(db, f"SELECT count(*) FROM {source} WHERE {_all(conditions)}", [p for _, p in conditions])
    return int(count)


def _all(conditions: list[Condition]) -> str:
    return " AND ".join(sql for sql, _ in conditions) or "true"


def _group(field: str) -> str:
    """Return SQL for the key of a row's group; for captions, which are long, a hash."""
    return "md5_number(caption)" if field == CAPTION else f'"{field}"::VARCHAR'


def conditions_of(name: str, wanted: Filter) -> list[Condition]:
    """Return the conditions of a filter on a column."""
    bounds = {">=": wanted.min, "<=": wanted.max}
    ranks = {">=": wanted.min_rank, "<=": wanted.max_rank}
    conditions: list[Condition] = [
        (f"{_number(name)} {way} ?", _in_precision(name, b)) for way, b in bounds.items() if b is not None
    ]
    conditions += [(f'"rank_of_{name}" {way} ?', bound) for way, bound in ranks.items() if bound is not None]
    contains = f'coalesce(list_contains(?::VARCHAR[], "{name}"::VARCHAR), false)'
    conditions += [(contains, [label_text(label) for label in wanted.any_of])] if wanted.any_of else []
    conditions += [(f"NOT {contains}", [label_text(label) for label in wanted.none_of])] if wanted.none_of else []
    return conditions


def _number(name: str) -> str:
    """Return SQL for a column's number, null if it has none."""
    if name.startswith(METADATA):
        number = f'try_cast("{name}" AS DOUBLE)'
        return f"CASE WHEN isfinite({number}) THEN {number} END"
    return f"({MEASURES.get(name, name)})"


def _in_precision(name: str, bound: float) -> float:
    """Return the bound in the precision of the column, so that a score read from a part passes itself as a bound."""
    return float32(bound) if column_kind(name) == "score" else bound


def create_valued(db: duckdb.DuckDBPyConnection, spec: SelectSpec) -> int:
    """Create the table `valued` (place, uid, value, labels) from `scored`, and the view `ranked` of one row per uid.

    That row is the uid's best value, of equal ones the first in the pool. Return the number of rows left out.
    """
    labels = "".join(f", {label}" for label in _labels(spec))
    scores = list(spec.by)
    source = _winsorised(db, spec, labels)
    if spec.scale == "rank":
        create_ranks(db, source, scores, spec.rank_groups)
        source, terms = with_ranks(source, scores, spec.rank_groups), rank_terms(spec.by)
    else:
        terms = _raw_terms(db, spec, source)
    value = combined_value(terms, spec.combine)
    db.execute(f"CREATE TEMP TABLE valued AS SELECT place, uid, {value} AS value{labels} FROM {source}")
    db.execute("DROP TABLE scored CASCADE")
    db.execute("CREATE TEMP TABLE repeated AS SELECT uid, count(*) AS times FROM valued GROUP BY uid HAVING times > 1")
    best = "row_number() OVER (PARTITION BY uid ORDER BY value DESC, place) = 1"
    db.execute(f"""
        CREATE TEMP VIEW ranked AS SELECT * FROM valued ANTI JOIN repeated USING (uid)
        UNION ALL SELECT * FROM valued SEMI JOIN repeated USING (uid) QUALIFY {best}
    """)
    (duplicates,) = one_row(db, "SELECT coalesce(sum(times - 1), 0) FROM repeated")
    return int(duplicates)


def _winsorised(db: duckdb.DuckDBPyConnection, spec: SelectSpec, labels: str) -> str:
    """Return the table with the scores to rank by: `scored`, or a view of it without extremes."""
    if not spec.winsorise:
        return "scored"
    shares = f"[{spec.winsorise!r}, {1 - spec.winsorise!r}]"
    bounds = one_row(db, f"SELECT {', '.join(f'quantile_disc({score}, {shares})' for score in spec.by)} FROM scored")
    pairs = cast(tuple[tuple[float, float], ...], bounds)
    clipped = [
        f"least(greatest({score}, {low!r}::FLOAT), {high!r}::FLOAT) AS {score}"
        for score, (low, high) in zip(spec.by, pairs, strict=True)
    ]
    groups = [f'"group_of_{score}"' for score in spec.rank_groups]
    db.execute(
        f"CREATE TEMP VIEW winsorised AS SELECT place, uid, {', '.join([*clipped, *groups])}{labels} FROM scored"
    )
    return "winsorised"


def _raw_terms(db: duckdb.DuckDBPyConnection, spec: SelectSpec, source: str) -> dict[str, float]:
    """Return the size of each weight by the SQL of its score, as it is or standardised; a negative weight negates."""
    terms: dict[str, float] = {}
    for score, weight in spec.by.items():
        number = f"{score}::DOUBLE"
        if spec.scale == "zscore":
            found = one_row(db, f"SELECT avg({number}), stddev_pop({number}) FROM {source}")
            mean, deviation = map(float32, found)  # a sum's last digits depend on the threads that add it up
            number = f"({number} - '{mean!r}'::DOUBLE) / '{deviation or 1.0!r}'::DOUBLE"
        terms[f"({number})" if weight > 0 else f"(-({number}))"] = abs(weight)
    return terms
