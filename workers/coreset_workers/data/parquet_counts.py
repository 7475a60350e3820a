"""The successes in an img2dataset parquet, counted in a child process within bounds.

A broken parquet can end the process that reads it: Arrow calls `terminate` on some (found by tests/fuzz/parquets.py).
And only a page itself says what it unpacks to. So the child has a limit of memory, and one that dies is replaced.
"""

import io
import multiprocessing
import resource
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from threading import Lock
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from coreset_workers.data.child_process import end_with_parent

MAX_ROWS = 10_000_000
MAX_STATUS_BYTES = 2**26
"""Of the column `status` unpacked; img2dataset's takes a few kB, since a dozen texts fill it."""
MAX_THRIFT_BYTES = 2**24
MAX_CHILD_BYTES = 2**32
"""Address space of the child."""
BATCH_ROWS = 65_536
_ENCODINGS = {"PLAIN", "RLE", "PLAIN_DICTIONARY", "RLE_DICTIONARY"}
"""Without DELTA_BYTE_ARRAY, by which each value of a few bytes repeats a long one."""

SUCCESS = "success"


class ParquetCounter:
    """Counts successes in a child process, started with the first file. Any thread may ask; close it at the end."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None
        self._lock = Lock()  # one file at a time, so that a dead child's file is known

    def count(self, data: bytes) -> int | None:
        """Return the number of rows whose status is success; None if the bytes cannot be read or exceed a bound."""
        with self._lock:
            if self._pool is None:
                context = multiprocessing.get_context("spawn")  # the fork server is the loaders', with their imports
                self._pool = ProcessPoolExecutor(1, context, initializer=_start)
            try:
                return self._pool.submit(count_successes, data).result()
            except BrokenProcessPool:
                self.close()
                return None

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None


def _start() -> None:
    end_with_parent()
    resource.setrlimit(resource.RLIMIT_AS, (MAX_CHILD_BYTES, MAX_CHILD_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def count_successes(data: bytes) -> int | None:
    """Count batch by batch, as indices into the few texts of the column: a long text is not repeated per row."""
    try:
        parquet = pq.ParquetFile(
            io.BytesIO(data),
            read_dictionary=["status"],
            thrift_string_size_limit=MAX_THRIFT_BYTES,
            thrift_container_size_limit=MAX_ROWS,
        )
        if "status" not in parquet.schema_arrow.names or not _is_bounded(parquet.metadata):
            return None
        batches = parquet.iter_batches(BATCH_ROWS, columns=["status"], use_threads=False)
        return sum(_successes(batch.column(0)) for batch in batches)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, MemoryError, pa.ArrowException):
        return None


def _successes(column: pa.Array) -> int:
    coded = cast(pa.DictionaryArray, column)
    place = cast(int, pc.index(coded.dictionary, pa.scalar(SUCCESS, coded.dictionary.type)).as_py())
    return int(np.count_nonzero(coded.indices.drop_null().to_numpy() == place)) if place >= 0 else 0


def _is_bounded(metadata: pq.FileMetaData) -> bool:
    """Return whether the metadata announces a column `status` that is small unpacked."""
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    columns = [group.column(index) for group in groups for index in range(group.num_columns)]
    status = [column for column in columns if column.path_in_schema == "status"]
    return (
        metadata.num_rows <= MAX_ROWS
        and sum(group.num_rows for group in groups) <= MAX_ROWS
        and sum(column.total_uncompressed_size for column in status) <= MAX_STATUS_BYTES
        and all(_ENCODINGS.issuperset(column.encodings) for column in status)
    )
