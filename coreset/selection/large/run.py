"""Selection from a large pool by columns, in place of the SQL."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import structlog

from coreset.schemas.manifest import File
from coreset.schemas.plan import Plan
from coreset.selection.large.copies import count_copies, drop_repeated_uids
from coreset.selection.large.cut import Cutter, balanced_counts, limit_of, members_of
from coreset.selection.large.ranks import Values, label_sizes
from coreset.selection.large.scan import Labels, OnlyBySql, Scan, scan_parts
from coreset.selection.large.scratch import Ints, Mask, blocks
from coreset.selection.large.subset import SubsetWriter, lowest
from coreset.selection.quota import require_enough, require_shares, wanted_of_shares
from coreset.selection.size import kept_size, threshold_of
from coreset.spec.selection import SelectSpec
from coreset.storage.layout import SelectionFolder
from coreset.storage.storage import Storage

log = structlog.get_logger("coreset.selection")

LARGE_POOL = 1_000_000
"""Number of rows from which on a selection is made here."""


class Selected(NamedTuple):
    """Counts and files of a selection, as `Selection` has them."""

    k: int
    rankable: int
    duplicates: int
    filtered: int
    repeated: int
    threshold: float
    files: dict[str, File]


def select_large(
    storage: Storage, plan: Plan, spec: SelectSpec, target: list[int], folder: SelectionFolder
) -> Selected | None:
    """Select, and write the subset's files; None if the pool is small, or if only the SQL can select by the rule.

    Raises:
        InvalidSpec, DamagedFile: as `select`.
    """
    reason = _reason_for_sql(spec)
    if reason is None:
        with tempfile.TemporaryDirectory(prefix="coreset-") as scratch:
            try:
                return _select(storage, plan, spec, target, folder, Path(scratch))
            except OnlyBySql as limit:
                reason = str(limit)
    log.info("selecting by SQL, which takes longer for large pools", reason=reason)
    return None


def _reason_for_sql(spec: SelectSpec) -> str | None:
    """Return the feature of the rule that only the SQL has, if any."""
    features = {
        "sampling": spec.sampling is not None,
        "winsorise": bool(spec.winsorise),
        "scale zscore": spec.scale == "zscore",
        "a filter by rank": any(wanted.by_rank for wanted in spec.filters.values()),
    }
    return next((name for name, asked in features.items() if asked), None)


def _select(
    storage: Storage, plan: Plan, spec: SelectSpec, target: list[int], folder: SelectionFolder, scratch: Path
) -> Selected | None:
    scan = scan_parts(storage, plan, spec, scratch, LARGE_POOL)
    if scan is None:
        return None
    if not scan.passed:
        raise OnlyBySql("no sample passes the filters, of which the SQL gives the counts")
    values = Values(scan, spec)
    duplicates = drop_repeated_uids(scan, values)
    k = kept_size(spec, scan.passed - duplicates)
    if spec.threshold is not None:
        _require_value(scan, values, threshold_of(spec))
    kept = _cut(scan, values, spec, k, target)
    writer = SubsetWriter(storage, plan, scan, values, kept, scratch)
    return Selected(
        k=writer.k,
        rankable=scan.passed - duplicates,
        duplicates=duplicates,
        filtered=scan.samples - scan.passed,
        repeated=0,
        threshold=lowest(values, kept, blocks(scan.rows)),
        files=writer.write(folder),
    )


def _require_value(scan: Scan, values: Values, threshold: float) -> None:
    """Leave out the rows below a threshold. Raises OnlyBySql if none is left."""
    for rows in blocks(scan.rows):
        place = np.flatnonzero(scan.alive[rows]) + rows.start
        scan.alive[place] = values.at(place) >= threshold
    if not scan.alive.any():
        raise OnlyBySql("no sample reaches the threshold, and the SQL names the best")


def _cut(scan: Scan, values: Values, spec: SelectSpec, k: int | None, target: list[int]) -> Mask:
    """Return the rows that are selected."""
    if spec.quota is None and k is None:
        return scan.alive
    copies = count_copies(scan, values) if spec.distinct else None
    together = Cutter(scan, values, copies, None, 1)
    if spec.quota is None:
        return together.take(np.array([k]), scan.alive).kept
    quota, labels = spec.quota, scan.labels[spec.quota.field]
    groups, sizes = labels.codes, label_sizes(scan, labels)
    if quota.shares is not None:
        assert k is not None
        wanted = wanted_of_shares(quota.shares, k)
        groups = _named(labels, wanted)
        sizes = _sizes(scan, groups, len(wanted))
        require_shares(quota.field, wanted, dict(zip(wanted, map(int, sizes), strict=True)))
        return Cutter(scan, values, copies, groups, len(wanted)).take(np.array([*wanted.values()]), scan.alive).kept
    apart = Cutter(scan, values, copies, groups, len(sizes))
    if quota.balance is not None:
        assert k is not None
        members = members_of(labels.names, target)
        counts, more, tied = balanced_counts(quota.balance, sizes, members, max(len(target), 1), k)
        kept, last = apart.take(counts, scan.alive)
        rows = last[tied]
        place = rows[_in_order(scan, values, copies, rows)]
        kept[place[len(place) - more :]] = False
        return kept
    counts = np.minimum(sizes, limit_of(quota, k))
    require_enough(int(counts.sum()), k)
    allowed = apart.take(counts, scan.alive).kept
    return allowed if k is None else together.take(np.array([k]), allowed).kept


def _named(labels: Labels, wanted: Mapping[str | None, int]) -> npt.NDArray[np.uint16]:
    """Return for each row the number of its label among the wanted ones; all others are None's."""
    numbers = {label: number for number, label in enumerate(wanted)}
    others = numbers[None]
    return np.array([others if n is None else numbers.get(n, others) for n in labels.names], np.uint16)[labels.codes]


def _sizes(scan: Scan, groups: npt.NDArray[np.uint16], count: int) -> Ints:
    return np.bincount(groups[scan.alive], minlength=count)


def _in_order(scan: Scan, values: Values, copies: npt.NDArray[np.uint16] | None, rows: Ints) -> Ints:
    """Return the order of a few rows by copy, then value, then uid."""
    upper, lower = scan.uid_halves(rows)
    copy = np.ones(len(rows), np.uint16) if copies is None else copies[rows]
    return np.lexsort((lower, upper, -values.at(rows), copy))
