"""A job's scores as one Arrow table."""

from collections.abc import Sequence
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import url_to_fs  # pyright: ignore

from coreset.schemas.manifest import File
from coreset.storage.complete_reads import with_complete_reads


def from_parts(parts: Sequence[File], columns: list[str] | None) -> pa.Table | None:
    """Return the parts as one table, or None where this machine cannot read them: another disk, or no rights.

    A part that is there but damaged raises what pyarrow says of it.
    """
    tables: list[pa.Table] = []
    for part in parts:
        try:
            fs, path = cast(tuple[Any, str], url_to_fs(part.uri))  # pyright: ignore
            with cast(Any, with_complete_reads(fs)).open(path, "rb") as file:
                content = file.read()
        except (OSError, ImportError, ValueError):  # not there; no s3fs or the like; a scheme that fsspec lacks
            return None
        tables.append(cast(Any, pq).read_table(pa.BufferReader(content), columns=columns))
    return pa.concat_tables(tables)


def from_answer(content: bytes) -> pa.Table:
    """Return the table that the service has sent as an Arrow stream."""
    return pa.ipc.open_stream(pa.BufferReader(content)).read_all()
