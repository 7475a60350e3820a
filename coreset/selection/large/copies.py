"""Rows of one uid, of which the best stays, and the place of each row among its copies."""

import numpy as np
import numpy.typing as npt

from coreset.selection.large.ranks import Values
from coreset.selection.large.scan import OnlyBySql, Scan
from coreset.selection.large.scratch import Floats, Longs, in_threads, ordered
from coreset.selection.quota import CLASS_SHARE

GATHERED_ROWS = 4_000_000
"""Rows whose uids are read at once."""

MAX_COPIES = 2**16 - 1

Rows = npt.NDArray[np.int64]


def drop_repeated_uids(scan: Scan, values: Values) -> int:
    """Leave only the best row of each uid, of equal ones the first. Return the number of the others."""
    dropped = waiting = 0
    suspects: list[Rows] = []
    for rows in in_threads(lambda number: _hashed_alike(scan.repeats.take(number)), range(scan.repeats.count)):
        suspects.append(rows)
        waiting += len(rows)
        if waiting > GATHERED_ROWS:
            dropped += _drop(scan, values, np.concatenate(suspects))
            suspects, waiting = [], 0
    return dropped + (_drop(scan, values, np.concatenate(suspects)) if waiting else 0)


def _hashed_alike(packed: Longs) -> Rows:
    """Return the rows whose half of a hash another row has too."""
    packed.sort()
    halves = packed >> np.uint64(32)
    same = halves[1:] == halves[:-1]
    either = np.zeros(len(packed), np.bool_)
    either[1:] |= same
    either[:-1] |= same
    return (packed[either] & np.uint64(2**32 - 1)).astype(np.int64)


def _drop(scan: Scan, values: Values, rows: Rows) -> int:
    upper, lower = scan.uid_halves(rows)
    order = np.lexsort((rows, -values.at(rows), lower, upper))
    upper, lower = upper[order], lower[order]
    worse = rows[order[1:][(upper[1:] == upper[:-1]) & (lower[1:] == lower[:-1])]]
    scan.alive[worse] = False
    return len(worse)


def count_copies(scan: Scan, values: Values) -> npt.NDArray[np.uint16]:
    """Return the place of each living row, from 1, among the rows of its group of `distinct`, by value and uid.

    In a group of a hundredth of all, which is a class, each row's place is 1.

    Raises:
        OnlyBySql: a group has more rows than 16 bits count.
    """
    places = np.ones(scan.rows, np.uint16)
    partitions, alive = scan.copies, int(np.count_nonzero(scan.alive))
    assert partitions is not None

    def count(number: int) -> None:
        records = partitions.take(number)
        records = records[scan.alive[records["row"]]]
        order = np.argsort(records["own"])
        own, more = records["own"][order], records["more"][order]
        same = own[1:] == own[:-1]
        if (same & (more[1:] != more[:-1])).any():  # two captions of one hash
            order = np.lexsort((records["more"], records["own"]))
            own, more = records["own"][order], records["more"][order]
            same = (own[1:] == own[:-1]) & (more[1:] == more[:-1])
        rows = records["row"][order]
        starts = np.flatnonzero(np.concatenate([[True], ~same])) if len(rows) else np.empty(0, np.int64)
        sizes = np.diff(starts, append=len(rows))
        sizes[sizes * round(1 / CLASS_SHARE) >= alive] = 1
        if len(sizes) and sizes.max() > MAX_COPIES:
            raise OnlyBySql(f"more than {MAX_COPIES:,} copies of a sample")
        groups = np.flatnonzero(sizes > 1)
        sizes, starts = sizes[groups], starts[groups]
        if len(groups) == 0:
            return
        firsts = np.cumsum(sizes) - sizes
        nth: Rows = np.arange(int(sizes.sum())) - np.repeat(firsts, sizes)
        rows = rows[np.repeat(starts, sizes) + nth].astype(np.int64)
        best = best_first(scan, rows, values.at(rows), np.repeat(np.arange(len(groups)), sizes))
        places[rows[best]] = nth + 1

    for _ in in_threads(count, range(partitions.count)):
        pass
    return places


def best_first(scan: Scan, rows: Rows, values: Floats, groups: Rows) -> Rows:
    """Return the order of rows by group, then by value, highest first, then by uid.

    Args:
        groups: numbers below 2**32.
    """
    value = ~ordered(values)
    short = (groups.astype(np.uint64) << np.uint64(32)) | (value >> np.uint64(32))
    order = np.argsort(short)
    sorted_short = short[order]
    same = sorted_short[1:] == sorted_short[:-1]
    if same.any():  # in half of their bits
        tied = np.flatnonzero(np.concatenate([same, [False]]) | np.concatenate([[False], same]))
        those = order[tied]
        upper, lower = scan.uid_halves(rows[those])
        order[tied] = those[np.lexsort((lower, upper, value[those], groups[those]))]
    return order
