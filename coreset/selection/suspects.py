"""The suspects of a job that cleans: what its selection leaves out, the most suspicious first."""

from collections.abc import Sequence
from functools import partial

import duckdb

from coreset.schemas.manifest import SUSPECTS, File
from coreset.selection.candidates import one_row
from coreset.selection.subset_files import write_table
from coreset.spec.scores import Score
from coreset.storage.storage import Storage

FROM_THE_LAST = "value, uid DESC"
"""The order of a selection, turned around."""


def make_suspects(db: duckdb.DuckDBPyConnection) -> None:
    """Make the table `suspects` (place, value, rank) of what is in the view `ranked` and not in the table `kept`."""
    db.execute(f"""
        CREATE TEMP TABLE suspects AS SELECT place, value, row_number() OVER (ORDER BY {FROM_THE_LAST}) AS rank
        FROM ranked ANTI JOIN kept USING (place)
    """)


def write_suspects(
    db: duckdb.DuckDBPyConnection, storage: Storage, folder: str, scores: Sequence[Score]
) -> dict[str, File]:
    """Write suspects.parquet of the table `suspects`, with where each sample is, its caption and all its scores."""
    columns = ["samples.uid", "shard", "key", "caption", "rank", "value", *scores]
    (rows,) = one_row(db, "SELECT count(*) FROM suspects")
    write = partial(write_table, db, "suspects", columns)
    return {SUSPECTS: storage.write_with(f"{folder}/{SUSPECTS}", write, rows=int(rows))}
