"""`python -m coreset_workers.data.tables.child FD BYTES`: the process that reads Parquet and Arrow files within bounds.

A broken file can end the process that reads it (tests/fuzz/parquets.py), and only a page itself says what it unpacks
to. So this process has a limit of memory, and its parent takes its death for damage of the file.
"""

import io
import resource
import sys
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from coreset.errors import CoresetError, Unavailable
from coreset_workers.data.opening import REFUSALS, allow, open_file
from coreset_workers.data.tables.columns import Kind
from coreset_workers.data.tar_stream import MAX_MEMBER_BYTES

MAX_THRIFT_BYTES = 2**26
MAX_THRIFT_ITEMS = 10_000_000
ROWS_TOGETHER = 16
"""Rows of a message."""

BUFFER_BYTES = 2**20
"""Bytes of a column that are read at once: without a buffer, pyarrow reads a whole row group's."""

ARROW_FILE = b"ARROW1"
DAMAGE = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, MemoryError, OverflowError, RecursionError),
    pa.ArrowException,
)
"""What pyarrow raises on a damaged file."""


def main() -> None:
    connection = Connection(int(sys.argv[1]))
    limit = int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pa.set_cpu_count(1)
    while True:
        try:
            kind, locations, arguments = connection.recv()
        except EOFError:
            return
        allow(locations)
        for answer in _answers(kind, arguments):
            connection.send(answer)


def _answers(kind: str, arguments: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    """Yield ("value", ...) for each answer, then ("end", None) or the kind of failure with its words."""
    try:
        try:
            file = _File(open_file(arguments[0]), arguments[0])
        except OSError as error:
            kind_of_error = "refused" if isinstance(error, REFUSALS) else "away"
            yield kind_of_error, type(error).__name__
            return
        with file:
            yield from (("value", value) for value in ANSWERS[kind](file, *arguments))
        yield "end", None
    except CoresetError as error:
        yield "away" if isinstance(error, Unavailable) else "refused", error.detail
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        MemoryError,
        OverflowError,
        pa.ArrowException,
    ) as e:
        yield "damage", type(e).__name__


class _File(io.RawIOBase):
    """A file whose failing reads are Unavailable, so that a broken transfer is not taken for a broken file."""

    def __init__(self, file: BinaryIO, uri: str) -> None:
        super().__init__()
        self._file, self._uri = file, uri

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        try:
            return self._file.read(size)
        except Exception as error:  # a file system's own kinds are many, and some are no OSErrors
            raise Unavailable(f"{self._uri} broke off ({type(error).__name__})", uri=self._uri) from error

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
        super().close()


def _parquet(file: _File) -> pq.ParquetFile:
    return pq.ParquetFile(
        cast(Any, file),
        buffer_size=BUFFER_BYTES,
        thrift_string_size_limit=MAX_THRIFT_BYTES,
        thrift_container_size_limit=MAX_THRIFT_ITEMS,
    )


def describe_parquet(file: _File, uri: str) -> Iterator[Any]:
    """Yield the kinds of the columns by name, then the (rows, bytes) of each row group."""
    parquet = _parquet(file)
    yield _kinds(parquet.schema_arrow)
    groups = (parquet.metadata.row_group(index) for index in range(parquet.metadata.num_row_groups))
    yield [
        (group.num_rows, sum(group.column(i).total_compressed_size for i in range(group.num_columns)))
        for group in groups
    ]


def read_parquet(file: _File, uri: str, image: str, first: int, end: int | None) -> Iterator[Any]:
    """Yield (number of the first row, rows) of the rows [first, end)."""
    parquet = _parquet(file)
    groups, skipped, start = [], 0, 0
    for index in range(parquet.metadata.num_row_groups):
        rows = parquet.metadata.row_group(index).num_rows
        if start + rows <= first:
            skipped += rows
        elif end is None or start < end:
            groups.append(index)
        start += rows
    columns = _wanted(parquet.schema_arrow, image)
    batches = parquet.iter_batches(ROWS_TOGETHER, row_groups=groups, columns=columns, use_threads=False)
    yield from _rows(batches, skipped, first, end)


def describe_arrow(file: _File, uri: str, counted: bool) -> Iterator[Any]:
    """Yield the kinds of the columns by name, then the number of rows if it is to be counted."""
    schema, batches = _arrow(file)
    yield _kinds(schema)
    yield sum(batch.num_rows for batch in batches) if counted else None


def read_arrow(file: _File, uri: str, image: str) -> Iterator[Any]:
    """Yield (number of the first row, rows) of a file of Hugging Face datasets, a stream of record batches."""
    schema, batches = _arrow(file)
    yield from _rows(_checked(batches, _wanted(schema, image)), 0, 0, None)


def _arrow(file: _File) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    options = pa.ipc.IpcReadOptions(use_threads=False)
    if file.read(len(ARROW_FILE)) == ARROW_FILE:
        reader = pa.ipc.open_file(cast(Any, file), options=options)
        return reader.schema, (reader.get_batch(index) for index in range(reader.num_record_batches))
    file.seek(0)
    stream = pa.ipc.open_stream(cast(Any, file), options=options)
    return stream.schema, iter(stream)


def _checked(batches: Iterator[pa.RecordBatch], columns: list[str]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        chosen = batch.select(columns)
        chosen.validate(full=True)  # offsets of a hostile file may lie outside of its buffers
        yield from (chosen.slice(start, ROWS_TOGETHER) for start in range(0, chosen.num_rows, ROWS_TOGETHER))


def _rows(batches: Iterator[pa.RecordBatch], start: int, first: int, end: int | None) -> Iterator[Any]:
    for batch in batches:
        low = max(first - start, 0)
        high = batch.num_rows if end is None else min(end - start, batch.num_rows)
        if low < high:
            yield start + low, [_bounded(row) for row in batch.slice(low, high - low).to_pylist()]
        start += batch.num_rows
        if end is not None and start >= end:
            return


def _bounded(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row without values that are too large."""
    return {name: value if _size(value) <= MAX_MEMBER_BYTES else None for name, value in row.items()}


def _size(value: Any) -> int:
    if isinstance(value, bytes | str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_size, value.values()))
    return sum(map(_size, value)) if isinstance(value, list) else 0


def _wanted(schema: pa.Schema, image: str) -> list[str]:
    """Return the columns to read: the image, and those without bytes."""
    return [name for name, kind in _kinds(schema).items() if name == image or kind not in ("bytes", "image")]


def _kinds(schema: pa.Schema) -> dict[str, Kind]:
    """Return the kinds of the columns that can be read by their names, without nested and doubled ones."""
    times = Counter(schema.names)
    kinds: dict[str, Kind] = {}
    for field in schema:
        kind = _kind(field.type)
        if kind is not None and times[field.name] == 1:
            kinds[field.name] = kind
    return kinds


def _kind(given: pa.DataType) -> Kind | None:
    types = pa.types
    if types.is_dictionary(given):
        return _kind(given.value_type)
    if types.is_string(given) or types.is_large_string(given) or types.is_string_view(given):
        return "text"
    if types.is_binary(given) or types.is_large_binary(given) or types.is_binary_view(given):
        return "bytes"
    if types.is_struct(given):
        return "image" if {"bytes", "path"} <= {field.name for field in given} else None
    if types.is_list(given) or types.is_large_list(given):
        return "texts" if _kind(given.value_type) == "text" else None
    return "other" if types.is_primitive(given) or types.is_decimal(given) else None


ANSWERS = {
    "describe_parquet": describe_parquet,
    "read_parquet": read_parquet,
    "describe_arrow": describe_arrow,
    "read_arrow": read_arrow,
}

if __name__ == "__main__":
    main()
