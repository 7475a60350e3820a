"""Numbers of samples as the files beside the shards announce them: _stats.json, sizes.json, or img2dataset's parquet.

These files come with the pool, so they may be made to harm. They are read within bounds, and one that exceeds a bound
announces nothing.
"""

import json
import posixpath
import tarfile
from typing import Any, BinaryIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from coreset.errors import LocationForbidden
from coreset_workers.data.opening import file_info, open_file
from coreset_workers.data.tar_stream import max_unpacked

MAX_SAMPLES = 100_000_000
"""Samples of one shard; a larger number is taken for damage."""

MAX_JSON_BYTES = 2**24
MAX_PARQUET_BYTES = 2**28
MAX_ROWS = 10_000_000
MAX_STATUS_BYTES = 2**26
"""Of the column `status` unpacked; img2dataset's takes a few kB, since a dozen texts fill it."""
BATCH_ROWS = 65_536
_ENCODINGS = {"PLAIN", "RLE", "PLAIN_DICTIONARY", "RLE_DICTIONARY"}
"""Without DELTA_BYTE_ARRAY, by which each value of a few bytes repeats a long one."""

SUCCESS = "success"


class AnnouncedSamples:
    """The announced number of samples per shard. Keeps each folder's sizes.json."""

    def __init__(self) -> None:
        self._sizes: dict[str, dict[str, Any]] = {}

    def of(self, uri: str, size: int) -> tuple[int | None, str | None]:
        """Return the number of samples of a shard and the kind of file that announces it, or (None, None).

        Args:
            size: bytes of the shard; a number of samples that cannot be in them is not believed. 0 is unknown.
        """
        folder, name = posixpath.split(uri)
        stem = name.split(".", 1)[0]
        most = _most_samples(name, size)
        stats = _json(f"{folder}/{stem}_stats.json")
        if _is_count(stats.get("successes"), most):
            return stats["successes"], "stats.json"
        if folder not in self._sizes:
            self._sizes[folder] = _json(f"{folder}/sizes.json")
        if _is_count(self._sizes[folder].get(name), most):
            return self._sizes[folder][name], "sizes.json"
        count = _successes(f"{folder}/{stem}.parquet")
        return (count, "parquet") if _is_count(count, most) else (None, None)


def _most_samples(name: str, size: int) -> int:
    """Return the most samples that a shard can hold: each takes a header of 512 bytes at least."""
    unpacked = size if name.endswith(".tar") else max_unpacked(size)
    return min(MAX_SAMPLES, unpacked // tarfile.BLOCKSIZE) if size and unpacked else MAX_SAMPLES


def _is_count(value: object, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def _json(uri: str) -> dict[str, Any]:
    try:
        with open_file(uri) as file:
            value = json.loads(file.read(MAX_JSON_BYTES))
    except (OSError, ValueError, RecursionError, LocationForbidden):
        return {}
    return value if isinstance(value, dict) else {}


def _successes(uri: str) -> int | None:
    """Return the number of rows of img2dataset's parquet whose status is success."""
    try:
        if file_info(uri)["size"] > MAX_PARQUET_BYTES:
            return None
        with open_file(uri) as file:
            return _count_successes(file)
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException, LocationForbidden):
        return None


def _count_successes(file: BinaryIO) -> int | None:
    """Count them batch by batch, as indices into the few texts of the column: a long text is not repeated per row."""
    parquet = pq.ParquetFile(
        file,
        read_dictionary=["status"],
        thrift_string_size_limit=MAX_JSON_BYTES,
        thrift_container_size_limit=MAX_ROWS,
    )
    if "status" not in parquet.schema_arrow.names or not _is_bounded(parquet.metadata):
        return None
    count = 0
    for batch in parquet.iter_batches(BATCH_ROWS, columns=["status"], use_threads=False):
        column = cast(pa.DictionaryArray, batch.column(0))
        place = cast(int, pc.index(column.dictionary, pa.scalar(SUCCESS, column.dictionary.type)).as_py())
        count += int(np.count_nonzero(column.indices.drop_null().to_numpy() == place))
    return count


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
