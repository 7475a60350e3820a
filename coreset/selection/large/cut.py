"""The cut: how many rows of each group are selected, and which, with exact order at the boundary alone."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from coreset.selection.large.copies import best_first
from coreset.selection.large.ranks import Values
from coreset.selection.large.scan import OnlyBySql, Scan
from coreset.selection.large.scratch import Floats, Ints, Longs, Mask, blocks, in_threads, ordered
from coreset.spec.selection import Quota

BINS = 1 << 23
"""Largest number of bins of a histogram by group."""

BOUNDARY_ROWS = 2_000_000
"""Rows at the boundaries from which on another histogram narrows them down."""


class Cut(NamedTuple):
    """The rows that are selected, and for each group the row that was taken last, -1 if none was."""

    kept: Mask
    last: Ints


class Cutter:
    """Takes the first rows of each group, in the order of copies, then values, then uids.

    Args:
        groups: the group of each row; None for one group of all.
        copies: the place of each row among its copies; None if there are none.
    """

    def __init__(
        self,
        scan: Scan,
        values: Values,
        copies: npt.NDArray[np.uint16] | None,
        groups: npt.NDArray[np.uint16] | None,
        count: int,
    ) -> None:
        self._scan, self._values, self._copies, self._groups, self._count = scan, values, copies, groups, count

    def take(self, wanted: Ints, among: Mask) -> Cut:
        """Take the first `wanted` rows of each group among some rows; a group has at least that many."""
        copy, left = self._boundary_copies(wanted, among)
        prefix, shift, left = self._boundary_values(copy, left, among)
        kept = np.zeros(self._scan.rows, np.bool_)

        def mark(rows: slice) -> Ints:
            place, group, at_copy = self._places(rows, among, copy)
            inside = place[~at_copy & (self._copy(place) < copy[group])]
            kept[inside] = True
            place, group = place[at_copy], group[at_copy]
            key = ordered(self._values.at(place)) >> np.uint64(shift)
            kept[place[key > prefix[group]]] = True
            return place[key == prefix[group]]

        edge = np.concatenate([*in_threads(mark, blocks(self._scan.rows)), np.empty(0, np.int64)])
        group = self._group(edge)
        order = best_first(self._scan, edge, self._values.at(edge), group.astype(np.int64))
        edge, group = edge[order], group[order]
        sizes = np.bincount(group, minlength=self._count)
        nth = np.arange(len(edge)) - (np.cumsum(sizes) - sizes)[group]
        kept[edge[nth < left[group]]] = True
        last = np.full(self._count, -1, np.int64)
        ends = nth == left[group] - 1
        last[group[ends]] = edge[ends]
        return Cut(kept, last)

    def _group(self, rows: Ints) -> npt.NDArray[np.integer]:
        return np.zeros(len(rows), np.uint16) if self._groups is None else self._groups[rows]

    def _copy(self, rows: Ints) -> npt.NDArray[np.integer]:
        return np.ones(len(rows), np.uint16) if self._copies is None else self._copies[rows]

    def _places(self, rows: slice, among: Mask, copy: Ints) -> tuple[Ints, npt.NDArray[np.integer], Mask]:
        """Return the rows of a block that take part, their groups, and whether each has its group's boundary copy."""
        place = np.flatnonzero(among[rows]) + rows.start
        group = self._group(place)
        return place, group, self._copy(place) == copy[group]

    def _boundary_copies(self, wanted: Ints, among: Mask) -> tuple[Ints, Ints]:
        """Return for each group the copy at its boundary, 0 if it wants none, and how many of these it wants."""
        most = 1 if self._copies is None else int(self._copies.max(initial=1))
        if self._count * (most + 1) > BINS:
            raise OnlyBySql("many groups with many copies")

        def count(rows: slice) -> Ints:
            place = np.flatnonzero(among[rows]) + rows.start
            code = self._group(place).astype(np.int64) * (most + 1) + self._copy(place)
            return np.bincount(code, minlength=self._count * (most + 1))

        counts = np.zeros((self._count, most + 1), np.int64)
        for block in in_threads(count, blocks(self._scan.rows)):
            counts += block.reshape(counts.shape)
        upto = np.cumsum(counts, axis=1)
        copy = np.where(wanted > 0, (upto < wanted[:, None]).sum(axis=1), 0)
        before = np.where(copy > 0, upto[np.arange(self._count), np.maximum(copy - 1, 0)], 0)
        return copy, wanted - before

    def _boundary_values(self, copy: Ints, left: Ints, among: Mask) -> tuple[Longs, int, Ints]:
        """Narrow down where the values of each group's boundary are.

        Returns:
            prefix: for each group the leading bits of the values at its boundary, as `ordered` has them.
            shift: number of the other bits.
            left: how many of the rows with this prefix the group wants.
        """
        width = min(16, int(math.log2(BINS // self._count)))
        prefix, shift = np.zeros(self._count, np.uint64), 64
        while shift:
            before, width = shift, min(width, shift)
            shift -= width

            def count(
                rows: slice, prefix: Longs = prefix, before: int = before, shift: int = shift, width: int = width
            ) -> Ints:
                place, group, at_copy = self._places(rows, among, copy)
                place, group = place[at_copy], group[at_copy]
                key = ordered(self._values.at(place))
                if before < 64:
                    inside = key >> np.uint64(before) == prefix[group]
                    key, group = key[inside], group[inside]
                bins = ((key >> np.uint64(shift)) & np.uint64(2**width - 1)).astype(np.int64)
                return np.bincount((group.astype(np.int64) << width) + bins, minlength=self._count << width)

            counts = np.zeros(self._count << width, np.int64)
            for block in in_threads(count, blocks(self._scan.rows)):
                counts += block
            descending = counts.reshape(self._count, 1 << width)[:, ::-1]
            upto = np.cumsum(descending, axis=1)
            place = np.minimum((upto < left[:, None]).sum(axis=1), (1 << width) - 1)
            left = left - np.where(place > 0, upto[np.arange(self._count), np.maximum(place - 1, 0)], 0)
            prefix = (prefix << np.uint64(width)) | ((1 << width) - 1 - place).astype(np.uint64)
            if descending[np.arange(self._count), place][copy > 0].sum() <= BOUNDARY_ROWS:
                break
        return prefix, shift, left


def balanced_counts(balance: str, sizes: Ints, members: Ints, clusters: int, k: int) -> tuple[Ints, int, Mask]:
    """Return how many rows of each group a quota that balances takes for k.

    Returns:
        counts: up to the turn of the k-th row, all rows of that turn included.
        more: how many more than k these are.
        tied: the groups whose last row has that turn.
    """
    total = max(int(sizes.sum()), 1)
    divisor = _divisors(balance, sizes, members, clusters, total)

    def upto(turn: float) -> Ints:
        about = np.floor(turn * divisor + (0.0 if balance == "equal" else 0.5)).astype(np.int64) - 2
        nth = np.clip(about, 0, sizes)
        for _ in range(4):  # the division rounds: count by the very numbers that are compared
            nth += (nth < sizes) & (_turns(balance, nth + 1, divisor) <= turn)
        return nth

    low, high = 0, int(_turns(balance, sizes, divisor)[sizes > 0].max(initial=0.0).view(np.int64))
    while low < high:  # over the bits of positive numbers, which are in their order
        middle = (low + high) // 2
        low, high = (low, middle) if upto(_number(middle)).sum() >= k else (middle + 1, high)
    turn = _number(low)
    counts = upto(turn)
    tied = (counts > 0) & (_turns(balance, counts, divisor) == turn)
    return counts, int(counts.sum()) - k, tied


def _number(bits: int) -> float:
    return float(np.int64(bits).view(np.float64))


def _divisors(balance: str, sizes: Ints, members: Ints, clusters: int, total: int) -> Floats:
    if balance == "target":
        return members + (clusters * sizes) / total
    return sizes.astype(np.float64) if balance == "proportional" else np.ones(len(sizes))


def _turns(balance: str, nth: Ints, divisor: Floats) -> Floats:
    """Return the turn of each group's n-th row, as `quota.TURNS` has it."""
    if balance == "equal":
        return nth.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):  # a group without rows has no turn
        return (nth - 0.5) / divisor


def members_of(names: Sequence[str | None], target: Sequence[int]) -> Ints:
    """Return the number of V's samples in each cluster by its name."""
    known = {str(cluster): count for cluster, count in enumerate(target)}
    return np.array([known.get(name, 0) if name is not None else 0 for name in names], np.int64)


def limit_of(quota: Quota, k: int | None) -> int:
    """Return the largest number of rows of a group."""
    if k is None or quota.max_share is None:
        assert quota.max is not None
        return quota.max
    return max(1, math.floor(quota.max_share * k + 1e-9))
