"""The second pass: the selected rows, sorted by value in pieces, as the files of a subset."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt
import pyarrow
import pyarrow.parquet as _parquet

from coreset.schemas.manifest import File
from coreset.schemas.part import part_schema
from coreset.schemas.plan import Plan
from coreset.selection.large.ranks import Values
from coreset.selection.large.scan import Scan
from coreset.selection.large.scratch import Floats, Ints, Longs, Mask, Partitions, in_threads, ordered
from coreset.selection.subset_files import ROWS
from coreset.storage.layout import SelectionFolder
from coreset.storage.plan_files import read_parts
from coreset.storage.storage import Storage
from coreset.uids import SUBSET_DTYPE

pa, parquet = (cast(Any, module) for module in (pyarrow, _parquet))  # poorly typed

PIECE_ROWS = 400_000
"""Rows of the subset that are sorted at once, unless there are more than MAX_PIECES times as many."""

MAX_PIECES = 256
"""Largest number of pieces, each an open file."""

SPLIT_ROWS = 400_000
"""Rows of the parts whose selected ones are read at once."""

SAMPLED = 64
"""Rows of which one is drawn for the bounds of the pieces."""

ROW_GROUP_STRIDE = 122_880
"""Rows of DuckDB's row groups: its batches of ROWS end there too."""


class SubsetWriter:
    """Writes subset.npy and subset.parquet as `coreset.selection.subset_files` does, of rows that are in no table."""

    def __init__(self, storage: Storage, plan: Plan, scan: Scan, values: Values, kept: Mask, folder: Path) -> None:
        self._storage, self._plan, self._scan, self._values = storage, plan, scan, values
        self._kept, self._folder = kept, folder
        self.k = int(np.count_nonzero(kept))
        sample = np.flatnonzero(kept)[::SAMPLED]
        pieces = max(1, min(self.k // PIECE_ROWS, MAX_PIECES))
        upper, lower = scan.uid_halves(sample)
        value = ~ordered(values.at(sample))
        self._bounds = _bounds([value, upper, lower], pieces)
        self._uid_bounds = _bounds([upper, lower], pieces)
        self._lock = Lock()
        self._uids = Partitions(folder, "subset-uids", pieces, SUBSET_DTYPE)
        self._pieces = [_Piece(folder / f"piece-{number}.arrow") for number in range(pieces)]

    def write(self, folder: SelectionFolder) -> dict[str, File]:
        for _ in in_threads(self._split, self._ranges()):
            pass
        return {
            "subset.npy": self._storage.write_with(folder.uids, self._write_uids, rows=self.k),
            "subset.parquet": self._storage.write_with(folder.subset, self._write_table, rows=self.k),
        }

    def _ranges(self) -> Iterator[range]:
        """Yield ranges of parts with about SPLIT_ROWS rows each."""
        first, rows = 0, 0
        for part, (start, end) in enumerate(zip(self._scan.starts[:-1], self._scan.starts[1:], strict=True)):
            rows += int(end - start)
            if rows >= SPLIT_ROWS or part == len(self._scan.parts) - 1:
                yield range(first, part + 1)
                first, rows = part + 1, 0

    def _split(self, parts: range) -> None:
        """Read the selected rows of some parts, and append each to its piece."""
        start, end = int(self._scan.starts[parts.start]), int(self._scan.starts[parts.stop])
        rows = np.flatnonzero(self._kept[start:end]) + start
        if len(rows) == 0:
            return
        summaries = self._scan.parts[parts.start : parts.stop]
        data = read_parts(self._storage, self._plan.id, summaries, verify=False)
        tables = [self._rows_of(part, each) for part, each in zip(parts, data, strict=True)]
        upper, lower = self._scan.uid_halves(rows)
        halves = np.empty(len(rows), SUBSET_DTYPE)
        halves["f0"], halves["f1"] = upper, lower
        self._uids.add(_piece_of([upper, lower], self._uid_bounds), halves)
        value = self._values.at(rows)
        piece = _piece_of([~ordered(value), upper, lower], self._bounds)
        order = np.argsort(piece, kind="stable")
        table = pa.concat_tables(tables).append_column("value", pa.array(value))
        table = table.append_column("upper", pa.array(upper)).append_column("lower", pa.array(lower))
        table = table.take(pa.array(order)).combine_chunks()
        ends = np.cumsum(np.bincount(piece, minlength=len(self._pieces)))
        with self._lock:
            for each, first, stop in zip(self._pieces, [0, *ends[:-1]], ends, strict=True):
                if stop > first:
                    each.append(table.slice(int(first), int(stop - first)))

    def _rows_of(self, part: int, data: bytes) -> Any:
        start, end = (int(bound) for bound in self._scan.starts[part : part + 2])
        names = ["uid", "shard", "key", *self._plan.subset_columns]
        table = parquet.ParquetFile(pa.BufferReader(data)).read(names, use_threads=False)
        return table.take(pa.array(np.flatnonzero(self._kept[start:end])))

    def _write_uids(self, file: BinaryIO) -> None:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(SUBSET_DTYPE)), "fortran_order": False}
        np.lib.format.write_array_header_1_0(file, {**header, "shape": (self.k,)})
        for uids in in_threads(lambda number: _sorted_uids(self._uids.take(number)), range(self._uids.count), 2):
            file.write(uids.data.cast("B"))

    def _write_table(self, file: BinaryIO) -> None:
        schema, written = _schema(self._plan), 0
        with parquet.ParquetWriter(file, schema) as writer:
            waiting: list[Any] = []
            for table in in_threads(_sorted_piece, [piece for piece in self._pieces if piece.used], 2):
                waiting.append(table)
                together, taken = pa.concat_tables(waiting).combine_chunks(), 0
                last = written + len(together) == self.k
                while (size := _batch(written, self.k)) and (taken + size <= len(together) or last):
                    writer.write_batch(_ranked(together.slice(taken, size), written, schema))
                    written, taken = written + size, taken + size
                waiting = [together.slice(taken)]


class _Piece:
    """Rows of one range of values, on disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: Any = None
        self._writer: Any = None

    @property
    def used(self) -> bool:
        return self._writer is not None

    def append(self, table: Any) -> None:
        """Append from one thread at a time."""
        if self._writer is None:
            self._file = pa.OSFile(str(self._path), "wb")
            self._writer = pa.ipc.new_stream(self._file, table.schema)
        self._writer.write_table(table)

    def take(self) -> Any:
        """Return all rows, and delete the file."""
        self._writer.close()
        self._file.close()
        with pa.OSFile(str(self._path)) as file:
            table = pa.ipc.open_stream(file).read_all().combine_chunks()
        self._path.unlink()
        return table


def _sorted_piece(piece: _Piece) -> Any:
    table = piece.take()
    value = ~ordered(table["value"].to_numpy())
    order = np.argsort(value)
    same = value[order[1:]] == value[order[:-1]]
    if same.any():
        tied = np.flatnonzero(np.concatenate([same, [False]]) | np.concatenate([[False], same]))
        those = order[tied]
        lower, upper = (table[name].to_numpy()[those] for name in ("lower", "upper"))
        order[tied] = those[np.lexsort((lower, upper, value[those]))]
    return table.drop_columns(["upper", "lower"]).take(pa.array(order))


def _ranked(rows: Any, before: int, schema: Any) -> Any:
    """Return rows in their order as a batch of subset.parquet."""
    columns = {name: rows[name] for name in rows.column_names}
    columns["rank"] = pa.array(np.arange(before + 1, before + 1 + len(rows)))
    columns["copies"] = pa.array(np.ones(len(rows), np.int32))
    (batch,) = pa.table([columns[name] for name in schema.names], schema=schema).combine_chunks().to_batches()
    return batch


def _schema(plan: Plan) -> Any:
    """Return the schema of subset.parquet, as DuckDB has it."""
    stored = cast(Any, part_schema(plan))
    fields = {"uid": pa.string(), "shard": pa.string(), "key": pa.string(), "rank": pa.int64(), "value": pa.float64()}
    named = {name: stored.field(name).type for name in plan.subset_columns}
    return pa.schema({**fields, "copies": pa.int32(), **named})


def _batch(written: int, k: int) -> int:
    """Return the number of rows of the next batch, by which DuckDB's reader cuts: ROWS, and at each row group's end."""
    inside = written % ROW_GROUP_STRIDE
    return min(ROWS if inside == 0 else ROW_GROUP_STRIDE - inside, k - written)


def _sorted_uids(uids: npt.NDArray[Any]) -> npt.NDArray[Any]:
    order = np.argsort(uids["f0"])
    upper = uids["f0"][order]
    if (upper[1:] == upper[:-1]).any():
        order = np.lexsort((uids["f1"], uids["f0"]))
    return uids[order]


def _bounds(keys: list[Longs], pieces: int) -> list[Longs]:
    """Return the keys, first by the first, at which each piece but the first begins, from a sample of rows."""
    order = np.lexsort(keys[::-1])
    starts = [len(order) * piece // pieces for piece in range(1, pieces)] if len(order) >= pieces else []
    return [key[order[starts]] for key in keys]


def _piece_of(keys: list[Longs], bounds: list[Longs]) -> Ints:
    """Return the piece of each row: the number of bounds that do not lie behind it, in the order of all keys."""
    piece = np.searchsorted(bounds[0], keys[0], side="right")
    if len(keys) > 1:
        for value in np.unique(bounds[0]):
            tied = np.flatnonzero(keys[0] == value)
            if len(tied):
                inside = np.flatnonzero(bounds[0] == value)
                piece[tied] = inside[0] + _piece_of([k[tied] for k in keys[1:]], [b[inside] for b in bounds[1:]])
    return piece


def lowest(values: Values, kept: Mask, rows: Sequence[slice]) -> float:
    """Return the lowest value of the selected rows."""

    def least(block: slice) -> float:
        found: Floats = values.at(np.flatnonzero(kept[block]) + block.start)
        return float(found.min(initial=np.inf))

    return min(in_threads(least, rows))
