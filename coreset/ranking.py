"""Ranks over a plan's parts, as SQL for DuckDB: what a selection and a comparison have in common."""

import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Literal

import duckdb

from coreset.part import SampleStatus
from coreset.plan import Plan
from coreset.scores import Score
from coreset.storage import Storage

Combine = Literal["mix", "intersection", "union"]


@contextmanager
def open_samples(storage: Storage, plan: Plan) -> Generator[duckdb.DuckDBPyConnection]:
    """Yield a connection with the view `samples`: the rows of all finished parts that have their scores.

    Larger than memory is no matter: DuckDB spills into a temporary folder.
    """
    with tempfile.TemporaryDirectory(prefix="coreset-") as folder, duckdb.connect() as db:
        db.execute("SET temp_directory = $1", [folder])
        db.register("parts", storage.parquet(_finished_parts(storage, plan)))
        db.execute(f"CREATE VIEW samples AS SELECT * FROM parts WHERE status = '{SampleStatus.OK}'")
        yield db


def _finished_parts(storage: Storage, plan: Plan) -> list[str]:
    """Return the parts with a summary beside them; a part without one is not complete."""
    folder = f"plans/{plan.id}/parts"
    names = set(storage.names(folder))
    parts = (plan.part_name(shard.index) for shard in plan.shards)
    return [f"{folder}/{part}" for part in parts if part in names and f"{part.removesuffix('.parquet')}.json" in names]


def scaled_rank(column: str) -> str:
    """Return SQL for a row's rank by a column, scaled to 0..1, 1 the best; equal values share their mean rank."""
    ties = f"(count(*) OVER (PARTITION BY {column}) - 1) / 2.0"
    return f"(rank() OVER (ORDER BY {column}) - 1 + {ties}) / greatest(count(*) OVER () - 1, 1)"


def combined(by: Mapping[Score, float], combine: Combine) -> str:
    """Return SQL for the value by which samples are kept, from the columns `rank_of_<score>`; 0..1, 1 the best.

    `mix` is the weighted mean of the ranks. The best k by the worst rank are in every score's top p for the smallest
    such p (`intersection`); the best k by the best rank are in any score's top p (`union`).
    """
    ranks = [f"rank_of_{score.value}" for score in by]
    if combine == "mix":
        weighted = " + ".join(f"{weight!r} * {rank}" for rank, weight in zip(ranks, by.values(), strict=True))
        return f"({weighted}) / {sum(by.values())!r}"
    return f"{'least' if combine == 'intersection' else 'greatest'}({', '.join(ranks)})"


def rank_columns(scores: list[Score]) -> str:
    """Return SQL for the columns `rank_of_<score>` over the view `samples`."""
    return ", ".join(f"{scaled_rank(score.value)} AS rank_of_{score.value}" for score in scores)
