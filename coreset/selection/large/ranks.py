"""Exact ranks of the rows, by sorting one range of a score at a time, and the values that are made of them."""

from collections.abc import Iterator
from typing import NamedTuple

import duckdb
import numpy as np
import numpy.typing as npt

from coreset.selection.candidates import one_row
from coreset.selection.large.scan import Labels, Scan, score_of
from coreset.selection.large.scratch import Floats, Ints, Keys, blocks, in_threads
from coreset.spec.scores import Score
from coreset.spec.selection import SelectSpec

SLAB_ROWS = 3_000_000
"""Rows that are sorted at once."""

Where = slice | npt.NDArray[np.integer]


class Values:
    """The values by which rows are selected, computed from what is stored per row when they are read.

    Args:
        scan: the rows, before repeated uids are left out, since ranks count these.
    """

    def __init__(self, scan: Scan, spec: SelectSpec) -> None:
        self._combine = spec.combine
        self._terms = list(in_threads(lambda score: _term(scan, spec, score), spec.by))
        with duckdb.connect() as db:  # whose literals are decimals; the SQL's values have their rounding
            literals = [repr(abs(weight)) for weight in spec.by.values()]
            total = repr(sum(abs(weight) for weight in spec.by.values()))
            *self._weights, self._total = one_row(
                db, f"SELECT {', '.join(f'({n})::DOUBLE' for n in [*literals, total])}"
            )

    def at(self, rows: Where) -> Floats:
        terms = [term.at(rows) for term in self._terms]
        if len(terms) == 1:
            return terms[0]
        if self._combine != "mix":
            return (np.minimum if self._combine == "intersection" else np.maximum).reduce(terms)
        value = self._weights[0] * terms[0]
        for weight, term in zip(self._weights[1:], terms[1:], strict=True):
            value += weight * term
        return value / self._total


class _Raw(NamedTuple):
    keys: Keys
    negated: bool

    def at(self, rows: Where) -> Floats:
        score = score_of(self.keys[rows]).astype(np.float64)
        return -score if self.negated else score


class _Rank(NamedTuple):
    """A rank: `twice` is twice the number of lower rows, and the number of equal ones, itself included."""

    twice: Keys
    negated: bool
    others: int

    def at(self, rows: Where) -> Floats:
        rank = (self.twice[rows].astype(np.float64) - 1.0) / 2.0 / self.others
        return 1 - rank if self.negated else rank


class _RankWithin(NamedTuple):
    twice: Keys
    negated: bool
    codes: npt.NDArray[np.uint16]
    sizes: Ints

    def at(self, rows: Where) -> Floats:
        rank = self.twice[rows].astype(np.float64) / 2.0 / self.sizes[self.codes[rows]]
        return 1 - rank if self.negated else rank


def _term(scan: Scan, spec: SelectSpec, score: Score) -> _Raw | _Rank | _RankWithin:
    negated = spec.by[score] < 0
    if spec.scale == "raw":
        return _Raw(scan.keys[score].read(slice(0, scan.rows)), negated)
    if score not in spec.rank_groups:
        return _Rank(_ranked(scan, score, None), negated, max(scan.passed - 1, 1))
    labels = scan.labels[spec.rank_groups[score]]
    return _RankWithin(_ranked(scan, score, labels), negated, labels.codes, label_sizes(scan, labels))


def label_sizes(scan: Scan, labels: Labels) -> Ints:
    """Return the number of living rows of each group."""
    sizes = np.zeros(len(labels.names), np.int64)
    for rows in blocks(scan.rows):
        sizes += np.bincount(labels.codes[rows][scan.alive[rows]], minlength=len(sizes))
    return sizes


def _ranked(scan: Scan, score: Score, labels: Labels | None) -> Keys:
    """Return `twice` of every living row: of _Rank, or of _RankWithin."""
    twice = np.zeros(scan.rows, np.uint32)
    below = np.zeros(len(labels.names) if labels else 1, np.int64)
    for low, high in _slabs(scan.histograms[score]):
        packed = _packed(scan, score, low, high)
        packed.sort()
        rows, keys = packed.astype(np.uint32), (packed >> np.uint64(32)).astype(np.uint32)
        del packed
        new = np.empty(len(rows), np.bool_)
        new[:1] = True
        if labels is None:
            np.not_equal(keys[1:], keys[:-1], out=new[1:])
            starts = np.flatnonzero(new)
            lengths = np.diff(starts, append=len(rows))
            counts = 2 * (below[0] + starts) + lengths
            below += len(rows)
        else:
            codes = labels.codes[rows]
            order = np.argsort(codes, kind="stable")
            rows, keys, codes = rows[order], keys[order], codes[order]
            new[1:] = (keys[1:] != keys[:-1]) | (codes[1:] != codes[:-1])
            starts = np.flatnonzero(new)
            lengths = np.diff(starts, append=len(rows))
            sizes = np.bincount(codes, minlength=len(below))
            counts = 2 * ((below - np.cumsum(sizes) + sizes)[codes[starts]] + starts) + lengths
            below += sizes
        twice[rows] = np.repeat(counts.astype(np.uint32), lengths)
    return twice


def _slabs(histogram: Ints) -> Iterator[tuple[int, int]]:
    """Yield ranges of upper halves of keys, ascending, with about SLAB_ROWS rows each, or one upper half."""
    low = rows = 0
    for top in np.flatnonzero(histogram):
        if rows and rows + histogram[top] > SLAB_ROWS:
            yield low, int(top)
            low, rows = int(top), 0
        rows += int(histogram[top])
    if rows:
        yield low, 1 << 16


def _packed(scan: Scan, score: Score, low: int, high: int) -> npt.NDArray[np.uint64]:
    """Return key and row, packed, of the living rows whose key's upper half is in the range."""
    found: list[npt.NDArray[np.uint64]] = []
    for rows in blocks(scan.rows):
        keys = scan.keys[score].read(rows)
        tops = keys >> np.uint32(16)
        mine = np.flatnonzero((tops >= low) & (tops < high) & scan.alive[rows])
        found.append((keys[mine].astype(np.uint64) << np.uint64(32)) | (mine + rows.start).astype(np.uint64))
    return np.concatenate(found)
