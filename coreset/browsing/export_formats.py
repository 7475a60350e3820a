"""Encoding of rows as NDJSON, CSV, Parquet or an Arrow stream, in pieces as DuckDB yields them."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import duckdb
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from coreset.browsing.score_query import Format
from coreset.spec.columns import column_kind

ROWS = 20_000
"""Rows per piece."""


def encode_rows(
    db: duckdb.DuckDBPyConnection, kind: Format, columns: Sequence[str], source: str, parameters: list[object]
) -> Iterator[bytes]:
    """Yield the pieces of one file with the columns of `source`, SQL that begins with FROM."""
    if kind == "ndjson":
        wanted = ", ".join(f'{_digits(name)} AS "{name}"' for name in columns)
        query = f"SELECT to_json(found)::VARCHAR AS line FROM (SELECT {wanted} {source}) AS found"
        for batch in _reader(db, query, parameters):
            yield "".join(f"{line}\n" for line in cast(list[str], batch["line"].to_pylist())).encode()
        return
    wanted = ", ".join(_as_text(name) if kind == "csv" and _has_terms(name) else f'"{name}"' for name in columns)
    yield from _written(_reader(db, f"SELECT {wanted} {source}", parameters), _WRITERS[kind])


def _reader(db: duckdb.DuckDBPyConnection, query: str, parameters: list[object]) -> pa.RecordBatchReader:
    return cast(pa.RecordBatchReader, db.sql(query, params=parameters).to_arrow_reader(ROWS))


def _has_terms(name: str) -> bool:
    return name.endswith("_by_checkpoint")


def _as_text(name: str) -> str:
    return f'{_digits(name)}::VARCHAR AS "{name}"'


def _digits(name: str) -> str:
    """Return SQL for a column, float32 with its shortest digits: 0.1, not 0.10000000149."""
    if _has_terms(name):
        return f'list_transform("{name}"::FLOAT[], lambda x: x::VARCHAR::DOUBLE)'
    return f'"{name}"::VARCHAR::DOUBLE' if column_kind(name) == "score" else f'"{name}"'


_WRITERS: dict[str, Callable[..., Any]] = {
    "csv": pyarrow.csv.CSVWriter,
    "parquet": pq.ParquetWriter,
    "arrow": pa.ipc.new_stream,
}


def _written(reader: pa.RecordBatchReader, open_writer: Callable[..., Any]) -> Iterator[bytes]:
    sink = _Sink()
    with open_writer(sink, reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)
            yield sink.take()
    yield sink.take()


class _Sink:
    """A file-like buffer that is emptied after each batch."""

    closed = False

    def __init__(self) -> None:
        self._buffered: list[bytes] = []
        self._position = 0

    def write(self, data: bytes) -> int:
        self._buffered.append(bytes(data))
        self._position += len(self._buffered[-1])
        return len(self._buffered[-1])

    def take(self) -> bytes:
        taken = b"".join(self._buffered)
        self._buffered.clear()
        return taken

    def tell(self) -> int:
        return self._position

    def flush(self) -> None:
        """Do nothing: bytes are taken from the buffer."""

    def close(self) -> None:
        """Do nothing: the last bytes are taken after the writer has closed it."""

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False
