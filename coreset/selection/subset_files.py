"""The files of a selection, written as they come from DuckDB: a subset of any size passes through in pieces."""

from collections.abc import Sequence
from functools import partial
from typing import BinaryIO, cast

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from coreset.schemas.manifest import File
from coreset.spec.scores import Score
from coreset.storage.storage import Storage
from coreset.uids import SUBSET_DTYPE

ROWS = 100_000
"""Rows that are in Python's hands at once."""


def write_kept(
    db: duckdb.DuckDBPyConnection, storage: Storage, folder: str, scores: Sequence[Score], k: int
) -> dict[str, File]:
    """Write subset.npy and subset.parquet of the table `kept` (place, uid, value, rank, copies), of k samples in all.

    The table's rows come in the order of rank, with where each sample is and all its scores. A sample of several copies
    has one row, and its uid in subset.npy as often.
    """

    def subset(file: BinaryIO) -> None:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(SUBSET_DTYPE)), "fortran_order": False, "shape": (k,)}
        np.lib.format.write_array_header_1_0(file, header)
        for batch in _reader(db, "SELECT uid::BLOB AS uid, copies FROM kept ORDER BY kept.uid"):
            file.write(_halves(cast(list[bytes], batch["uid"].to_pylist()), batch["copies"].to_numpy()))

    columns = ["samples.uid", "shard", "key", "rank", "value", "copies", *scores]
    ((rows,),) = db.execute("SELECT count(*) FROM kept").fetchall()
    return {
        "subset.npy": storage.write_with(f"{folder}/subset.npy", subset, rows=k),
        "subset.parquet": storage.write_with(
            f"{folder}/subset.parquet", partial(write_table, db, "kept", columns), rows=rows
        ),
    }


def write_table(db: duckdb.DuckDBPyConnection, table: str, columns: Sequence[str], file: BinaryIO) -> None:
    """Write the rows of a table (place, rank, ...), in the order of rank, with columns of their samples, as Parquet."""
    # Joined first, sorted then: at once, both want the memory of 30 million rows, and it ran out.
    db.execute(f"CREATE TEMP TABLE wide AS SELECT {', '.join(columns)} FROM {table} JOIN samples USING (place)")
    reader = _reader(db, "SELECT * FROM wide ORDER BY rank")
    with pq.ParquetWriter(file, reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)
    db.execute("DROP TABLE wide")


def _halves(uids: list[bytes], copies: npt.NDArray[np.integer]) -> bytes:
    """Return uids of 16 bytes each, most significant first, as SUBSET_DTYPE holds them, each so many times."""
    return np.repeat(np.frombuffer(b"".join(uids), ">u8").astype("<u8").reshape(-1, 2), copies, axis=0).tobytes()


def _reader(db: duckdb.DuckDBPyConnection, query: str) -> pa.RecordBatchReader:
    return db.sql(query).to_arrow_reader(ROWS)
