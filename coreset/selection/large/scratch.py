"""Scratch files of a selection: columns in the order of the rows, and records split into partitions."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint32]
Longs = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.integer[Any]]
"""Positions of rows in the pool, over all parts in order."""

BLOCK = 1 << 21
"""Rows that are read and compared at once."""

THREADS = min(8, os.cpu_count() or 1)

SPARSE = 16_384
"""One row in so many is read by itself, more with their whole block."""

T = TypeVar("T")
R = TypeVar("R")


def blocks(rows: int) -> list[slice]:
    """Return the slices of BLOCK rows that cover so many."""
    return [slice(start, min(start + BLOCK, rows)) for start in range(0, rows, BLOCK)]


def in_threads(work: Callable[[T], R], items: Iterable[T], ahead: int = 2 * THREADS) -> Iterator[R]:
    """Yield the results in order, with at most `ahead` items begun and not yet yielded, which bounds memory."""
    with ThreadPoolExecutor(THREADS) as pool:
        waiting = iter(items)
        begun = [pool.submit(work, item) for item in islice(waiting, ahead)]
        try:
            while begun:
                yield begun.pop(0).result()
                begun += [pool.submit(work, item) for item in islice(waiting, 1)]
        finally:
            for future in begun:
                future.cancel()


class Column:
    """A file with one number per row, written and read by ranges of rows, from any thread."""

    def __init__(self, path: Path, dtype: npt.DTypeLike) -> None:
        self._path, self._dtype = path, np.dtype(dtype)
        path.touch()

    def write(self, start: int, values: npt.NDArray[Any]) -> None:
        with self._path.open("r+b") as file:
            file.seek(start * self._dtype.itemsize)
            file.write(np.ascontiguousarray(values, self._dtype).data)

    def read(self, rows: slice) -> npt.NDArray[Any]:
        size = self._dtype.itemsize
        return np.fromfile(self._path, self._dtype, rows.stop - rows.start, offset=rows.start * size)

    def at(self, rows: Rows) -> npt.NDArray[Any]:
        """Return the values of some rows, ascending, from the blocks that have any."""
        found = np.empty(len(rows), self._dtype)
        done = 0
        while done < len(rows):
            first = int(rows[done]) // BLOCK * BLOCK
            end = int(np.searchsorted(rows, first + BLOCK))
            if end - done < BLOCK // SPARSE:
                for number in range(done, end):
                    found[number : number + 1] = self.read(slice(int(rows[number]), int(rows[number]) + 1))
            else:
                found[done:end] = self.read(slice(first, int(rows[end - 1]) + 1))[rows[done:end] - first]
            done = end
        return found


class Partitions:
    """Records of one kind in several files, by the number of their partition, appended from any thread."""

    def __init__(self, folder: Path, name: str, count: int, dtype: npt.DTypeLike) -> None:
        self.count, self._dtype, self._lock = count, np.dtype(dtype), Lock()
        self._paths = [folder / f"{name}-{number}" for number in range(count)]

    def add(self, numbers: npt.NDArray[np.integer[Any]], records: npt.NDArray[Any]) -> None:
        """Append each record to the partition of its number; the order within a partition is not defined."""
        numbers = numbers.astype(np.uint16)  # whose stable sort is by counting
        records = np.take(records, np.argsort(numbers, kind="stable"))
        ends = np.cumsum(np.bincount(numbers, minlength=self.count))
        with self._lock:
            for number, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
                if end > start:
                    with self._paths[number].open("ab", buffering=0) as file:
                        file.write(records[start:end].data.cast("B"))

    def take(self, number: int) -> npt.NDArray[Any]:
        """Return a partition's records, and delete its file."""
        path = self._paths[number]
        if not path.exists():
            return np.empty(0, self._dtype)
        records = np.fromfile(path, self._dtype)
        path.unlink()
        return records


def ordered(values: Floats) -> Longs:
    """Return integers in the order of the numbers, none of which is NaN; 0 and -0 are one."""
    bits = (values + 0.0).view(np.uint64)
    return bits ^ np.where(bits >> np.uint64(63), np.uint64(2**64 - 1), np.uint64(2**63))
