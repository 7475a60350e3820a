"""Encoding of rows as NDJSON, CSV, Parquet or an Arrow stream, in pieces as DuckDB yields them."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import duckdb
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from coreset.browsing.score_query import Format
from coreset.spec.columns import CAPTION, METADATA, SHARD, column_kind
from coreset.storage.byte_sink import ByteSink

ROWS = 20_000
"""Rows per piece."""

_TEXTS = (SHARD, "key", CAPTION)
_FORMULA = r"^[=+\-@\t\r]"
"""Beginnings of a cell that spreadsheets take for a formula."""


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
    wanted = ", ".join(_in_csv(name) if kind == "csv" else f'"{name}"' for name in columns)
    yield from _written(_reader(db, f"SELECT {wanted} {source}", parameters), _WRITERS[kind])


def _reader(db: duckdb.DuckDBPyConnection, query: str, parameters: list[object]) -> pa.RecordBatchReader:
    return cast(pa.RecordBatchReader, db.sql(query, params=parameters).to_arrow_reader(ROWS))


def _has_terms(name: str) -> bool:
    return name.endswith("_by_checkpoint")


def _in_csv(name: str) -> str:
    """Return SQL for a column of CSV. Text that a spreadsheet would run as a formula gets an apostrophe in front."""
    if _has_terms(name):
        return f'{_digits(name)}::VARCHAR AS "{name}"'
    if name not in _TEXTS and not name.startswith(METADATA):
        return f'"{name}"'
    return f"""regexp_replace("{name}", '{_FORMULA}', '''\\0') AS "{name}" """


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
    pieces: list[bytes] = []
    sink = ByteSink(lambda data: pieces.append(bytes(data)))
    with open_writer(sink, reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)
            yield _taken(pieces)
    yield _taken(pieces)


def _taken(pieces: list[bytes]) -> bytes:
    """Empty the list and return what was in it as one."""
    joined = b"".join(pieces)
    pieces.clear()
    return joined
