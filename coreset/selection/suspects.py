"""Suspects of a job that cleans: the samples that its selection leaves out, the most suspicious first."""

from collections.abc import Sequence
from functools import partial

import duckdb

from coreset.schemas.manifest import SUSPECTS, File
from coreset.selection.candidates import one_row
from coreset.selection.subset_files import write_table
from coreset.spec.scores import Score
from coreset.storage.layout import SelectionFolder
from coreset.storage.storage import Storage

REVERSED_ORDER = "value, uid DESC"
"""SQL of the order of a selection, reversed."""


def create_suspects(db: duckdb.DuckDBPyConnection) -> None:
    """Create the table `suspects` (place, value, rank) of the rows of the view `ranked` that the table `kept` lacks."""
    db.execute(f"""
        CREATE TEMP TABLE suspects AS SELECT place, value, row_number() OVER (ORDER BY {REVERSED_ORDER}) AS rank
        FROM ranked ANTI JOIN kept USING (place)
    """)


def write_suspects(
    db: duckdb.DuckDBPyConnection, storage: Storage, folder: SelectionFolder, scores: Sequence[Score]
) -> dict[str, File]:
    """Write suspects.parquet of the table `suspects`, with where each sample is, its caption and all its scores."""
    columns = ["samples.uid", "shard", "key", "caption", "rank", "value", *scores]
    (rows,) = one_row(db, "SELECT count(*) FROM suspects")
    write = partial(write_table, db, "suspects", columns)
    return {SUSPECTS: storage.write_with(folder.file(SUSPECTS), write, rows=int(rows))}
