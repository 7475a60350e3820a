"""Subset files of a selection, streamed from DuckDB, so that a subset of any size takes bounded memory."""

from collections.abc import Sequence
from functools import partial
from typing import BinaryIO, cast

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from coreset.schemas.manifest import File
from coreset.storage.layout import SelectionFolder
from coreset.storage.storage import Storage
from coreset.uids import SUBSET_DTYPE

ROWS = 100_000
"""Rows per batch."""


def write_subset(
    db: duckdb.DuckDBPyConnection, storage: Storage, folder: SelectionFolder, columns: Sequence[str], k: int
) -> dict[str, File]:
    """Write subset.npy and subset.parquet of the table `kept` (place, uid, value, rank, copies), of k samples in all.

    The table's rows come in the order of rank, with where each sample is and the columns that are named. A sample of
    several copies has one row, and its uid in subset.npy as often.
    """

    def subset(file: BinaryIO) -> None:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(SUBSET_DTYPE)), "fortran_order": False, "shape": (k,)}
        np.lib.format.write_array_header_1_0(file, header)
        for batch in _reader(db, "SELECT uid::BLOB AS uid, copies FROM kept ORDER BY kept.uid"):
            file.write(_halves(cast(list[bytes], batch["uid"].to_pylist()), batch["copies"].to_numpy()))

    named = (f'"{column}"' for column in columns)
    written = ["samples.uid", "shard", "key", "rank", "value", "copies", *named]
    ((rows,),) = db.execute("SELECT count(*) FROM kept").fetchall()
    return {
        "subset.npy": storage.write_with(folder.uids, subset, rows=k),
        "subset.parquet": storage.write_with(folder.subset, partial(write_table, db, "kept", written), rows=rows),
    }


def write_table(db: duckdb.DuckDBPyConnection, table: str, columns: Sequence[str], file: BinaryIO) -> None:
    """Write the rows of a table (place, rank, ...), in the order of rank, with columns of their samples, as Parquet."""
    # Joined first, then sorted: done at once, 30 million rows ran out of memory.
    db.execute(f"CREATE TEMP TABLE wide AS SELECT {', '.join(columns)} FROM {table} JOIN samples USING (place)")
    reader = _reader(db, "SELECT * FROM wide ORDER BY rank")
    with pq.ParquetWriter(file, reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)
    db.execute("DROP TABLE wide")


def _halves(uids: list[bytes], copies: npt.NDArray[np.integer]) -> bytes:
    """Return uids of 16 bytes, most significant first, as bytes of SUBSET_DTYPE, each repeated by its copies."""
    return np.repeat(np.frombuffer(b"".join(uids), ">u8").astype("<u8").reshape(-1, 2), copies, axis=0).tobytes()


def _reader(db: duckdb.DuckDBPyConnection, query: str) -> pa.RecordBatchReader:
    return db.sql(query).to_arrow_reader(ROWS)
