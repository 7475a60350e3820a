"""Ranks over a plan's parts, as SQL for DuckDB, for selections and comparisons.

A pool may have far more samples than memory has room for: 100 million uids are 3 GB as text. So tables hold a sample's
`place` instead of its columns and its uid as 16 bytes, and ranks are counted over the distinct values of a score, not
sorted row by row. DuckDB spills what does not fit into MEMORY_LIMIT.
"""

import os
import re
import tempfile
from collections.abc import Collection, Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Literal

import duckdb

from coreset.errors import PoolUnusable
from coreset.schemas.part import SampleStatus
from coreset.schemas.plan import Plan
from coreset.spec.scores import Score
from coreset.storage.layout import PlanFolder
from coreset.storage.plan_files import complete_parts
from coreset.storage.storage import Storage

Combine = Literal["mix", "intersection", "union"]

MEMORY_LIMIT = "2GB"
"""Memory limit of DuckDB; the process needs up to 1 GB more. With less, sorts of 100 million rows fail."""

MAX_THREADS = 8
"""Largest number of DuckDB's threads; each takes a share of MEMORY_LIMIT."""


@contextmanager
def open_samples(
    storage: Storage, plan: Plan, status: SampleStatus = SampleStatus.OK
) -> Generator[duckdb.DuckDBPyConnection]:
    """Yield a connection with the view `samples`: the rows of all finished parts with that status.

    Raises:
        PoolUnusable: there is no finished part.
    """
    with open_parts(storage, plan) as db:
        db.execute("SET preserve_insertion_order = false")
        db.execute(f"CREATE TEMP VIEW samples AS SELECT * FROM parts WHERE status = '{status.value}'")
        yield db


@contextmanager
def open_parts(
    storage: Storage, plan: Plan, shards: Collection[int] | None = None
) -> Generator[duckdb.DuckDBPyConnection]:
    """Yield a connection with the view `parts`: the rows of all finished parts, or those of `shards`, bad samples too.

    Its columns are the part's, and `place` (BIGINT), unique to each row and ascending with the shard's index and the
    row in it. DuckDB spills what does not fit into memory into a folder below TMPDIR.

    Raises:
        PoolUnusable: there is no finished part.
        DamagedFile: a part or its summary is damaged.
    """
    wanted = [shard.index for shard in plan.shards if shards is None or shard.index in shards]
    paths = [storage.uri(PlanFolder(plan.id).part(index)) for index in complete_parts(storage, plan.id, wanted)]
    if not paths:
        raise PoolUnusable("no sample has scores: no shard was scored; the job's failed shards say why")
    with tempfile.TemporaryDirectory(prefix="coreset-") as folder, duckdb.connect() as db:
        db.execute("SET temp_directory = $1", [folder])
        db.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")
        db.execute(f"SET threads = {min(MAX_THREADS, os.cpu_count() or 1)}")
        storage.register_in(db)
        files = ", ".join(_quoted(_literal(path)) for path in paths)
        db.execute(f"""
            CREATE TEMP VIEW parts AS SELECT *, file_index::BIGINT * {2**32} + file_row_number AS place
            FROM read_parquet([{files}])
        """)
        yield db


def _literal(path: str) -> str:
    """Return the path with the characters escaped that DuckDB reads as a pattern."""
    return re.sub(r"[*?\[]", r"[\g<0>]", path)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def create_ranks(
    db: duckdb.DuckDBPyConnection, table: str, columns: Iterable[str], within: Collection[str] = ()
) -> None:
    """Create the tables `ranks_<column>` (value, rank) of the distinct values of a table's columns.

    A rank is scaled to 0..1, 1 the best; rows of one value share their mean rank. Of the columns in `within` it is the
    rank among the rows with the same `group_of_<column>`: the share of them that is lower, of ties the half.
    """
    (rows,) = db.execute(f"SELECT count(*) FROM {table}").fetchone() or (0,)
    for column in columns:
        if column in within:
            group, below = f'"group_of_{column}"', "sum(rows) OVER (PARTITION BY own ORDER BY value)"
            rank = f"({below} - rows / 2.0) / sum(rows) OVER (PARTITION BY own)"
        else:
            group, below = "NULL", "sum(rows) OVER (ORDER BY value)"
            rank = f"({below} - rows + (rows - 1) / 2.0) / {max(rows - 1, 1)}"
        db.execute(f"""
            CREATE OR REPLACE TEMP TABLE "ranks_{column}" AS SELECT own, value, {rank} AS rank
            FROM (SELECT {group} AS own, "{column}" AS value, count(*) AS rows FROM {table} GROUP BY 1, 2)
        """)


def with_ranks(table: str, columns: Iterable[str], within: Collection[str] = ()) -> str:
    """Return SQL for the table with a column `rank_of_<column>` for each, from the tables of `create_ranks`."""
    joins = [
        f'JOIN (SELECT own AS "own_of_{c}", value AS "value_of_{c}", rank AS "rank_of_{c}" FROM "ranks_{c}") '
        f'ON "{c}" = "value_of_{c}"' + (f' AND "group_of_{c}" IS NOT DISTINCT FROM "own_of_{c}"' if c in within else "")
        for c in columns
    ]
    return f"{table} {' '.join(joins)}"


def rank_terms(by: Mapping[Score, float]) -> dict[str, float]:
    """Return the size of each weight by the SQL of its rank, 0..1, 1 the best; a negative weight reverses it."""
    ranks = {score: f'"rank_of_{score.value}"' for score in by}
    return {ranks[score] if weight > 0 else f"(1 - {ranks[score]})": abs(weight) for score, weight in by.items()}


def combined_value(terms: Mapping[str, float], combine: Combine) -> str:
    """Return SQL for the value by which samples are selected, from weights by the SQL of each term.

    `mix` is the weighted mean. The best k by the worst rank are in every score's top p for the smallest such p
    (`intersection`); the best k by the best rank are in any score's top p (`union`).
    """
    if len(terms) == 1:
        return next(iter(terms))
    if combine == "mix":
        weighted = " + ".join(f"{weight!r} * {term}" for term, weight in terms.items())
        return f"({weighted}) / {sum(terms.values())!r}"
    return f"{'least' if combine == 'intersection' else 'greatest'}({', '.join(terms)})"
