"""Scores of a job as one Arrow table."""

from collections.abc import Sequence
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import url_to_fs  # pyright: ignore

from coreset.schemas.manifest import File
from coreset.storage.complete_reads import reading_whole


def from_parts(parts: Sequence[File], columns: list[str] | None) -> pa.Table | None:
    """Return the parts as one table; None if this machine has no access to them.

    Raises:
        pa.ArrowInvalid: a part is damaged.
    """
    tables: list[pa.Table] = []
    for part in parts:
        try:
            fs, path = cast(tuple[Any, str], url_to_fs(part.uri))  # pyright: ignore
            with cast(Any, reading_whole(fs)).open(path, "rb") as file:
                content = file.read()
        except (OSError, ImportError, ValueError):  # no such file; no s3fs or the like; unknown scheme
            return None
        tables.append(cast(Any, pq).read_table(pa.BufferReader(content), columns=columns))
    return pa.concat_tables(tables)


def from_answer(content: bytes) -> pa.Table:
    """Return the table in an Arrow stream that the service sent."""
    return pa.ipc.open_stream(pa.BufferReader(content)).read_all()
