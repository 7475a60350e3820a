"""The first pass: each part is read once, verified, filtered, and written as columns in the order of the rows."""

import binascii
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, cast

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow
import pyarrow.compute as _compute
import pyarrow.parquet as _parquet

from coreset.schemas.manifest import ShardSummary
from coreset.schemas.part import SampleStatus
from coreset.schemas.plan import Plan
from coreset.selection.candidates import conditions_of
from coreset.selection.large.scratch import Column, Ints, Keys, Longs, Mask, Partitions, in_threads
from coreset.spec.columns import CAPTION, CAPTION_MEASURES, MEASURES
from coreset.spec.scores import Score
from coreset.spec.selection import SelectSpec
from coreset.storage.plan_files import finished_parts, read_parts
from coreset.storage.storage import Storage

pa, compute, parquet = (cast(Any, module) for module in (pyarrow, _compute, _parquet))  # poorly typed

GROUP_ROWS = 250_000
"""Rows of the parts that one thread reads at once."""

PARTITION_ROWS = 2_000_000
"""Average number of rows in a partition."""

MAX_ROWS = 2**31 - 1
"""Largest number of rows: twice a rank must fit 32 bits."""

MAX_LABELS = 2**16 - 1
"""Largest number of groups of a column: their codes have 16 bits."""

UID_BYTES = 16
COPY_RECORD = np.dtype([("own", "u8"), ("more", "u4"), ("row", "u4")])
"""96 bits of a hash of a row's group of `distinct`, and the row."""


class OnlyBySql(Exception):
    """This module cannot select by the rule, or from these parts; the SQL can."""


class Labels:
    """Codes of the groups of one column, 0, 1, ..., in the order in which they are met; 0 is the group without."""

    def __init__(self, rows: int) -> None:
        self.codes = np.zeros(rows, np.uint16)
        self.names: list[str | None] = [None]
        self._known: dict[object, int] = {}
        self._lock = Lock()

    def encode(self, start: int, column: Any) -> None:
        """Write the codes of the rows from `start` on. Raises OnlyBySql if there are too many groups."""
        coded = column.combine_chunks().dictionary_encode()
        coded = coded.combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded
        kind = coded.dictionary.type
        if not (pa.types.is_integer(kind) or pa.types.is_string(kind)):
            raise OnlyBySql(f"groups by a column of {kind}")
        with self._lock:
            found = [self._code(value) for value in coded.dictionary.to_pylist()]
        codes = np.array([*found, 0], np.uint16)
        places = coded.indices.fill_null(len(found)).to_numpy(zero_copy_only=False)
        self.codes[start : start + len(places)] = codes[places]

    def _code(self, value: object) -> int:
        if value not in self._known:
            if len(self.names) > MAX_LABELS:
                raise OnlyBySql(f"more than {MAX_LABELS:,} groups")
            self._known[value] = len(self.names)
            self.names.append(str(value))
        return self._known[value]


@dataclass
class Scan:
    """A pool's rows as columns.

    Attributes:
        alive: the rows that can be selected: those with scores that pass the filters; later without repeated uids.
        samples: number of rows with scores.
        passed: number of those that pass the filters.
        keys: each score in an order-preserving form, see `key_of`.
        histograms: by score, how many of the rows that pass have each upper half of a key.
        repeats: by a hash of the uid, the other half of it and the row, packed.
        copies: by a hash of the group of `distinct`.
    """

    parts: list[ShardSummary]
    starts: Ints
    alive: Mask
    samples: int
    passed: int
    keys: dict[Score, Column]
    histograms: dict[Score, Ints]
    labels: dict[str, Labels]
    uids: Column
    repeats: Partitions
    copies: Partitions | None

    @property
    def rows(self) -> int:
        return len(self.alive)

    def uid_halves(self, rows: npt.NDArray[np.integer[Any]]) -> tuple[Longs, Longs]:
        """Return the upper and the lower halves of the uids of some rows, in any order."""
        order = np.argsort(rows)
        halves = np.empty((len(rows), 2), np.uint64)
        halves[order] = self.uids.at(rows[order]).view(">u8").reshape(-1, 2)
        return halves[:, 0], halves[:, 1]


def scan_parts(storage: Storage, plan: Plan, spec: SelectSpec, folder: Path, min_rows: int) -> Scan | None:
    """Read every finished part once, and return its rows as columns in `folder`; None if there are few rows.

    Raises:
        OnlyBySql: a part has uids, scores or groups that only the SQL can select from.
        DamagedFile: a part or its summary is damaged.
    """
    parts = finished_parts(storage, plan.id, [shard.index for shard in plan.shards])
    sizes = [summary.part.rows or 0 for summary in parts.values()]
    starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    if starts[-1] < min_rows:
        return None
    if not all(sizes) or starts[-1] > MAX_ROWS:
        raise OnlyBySql("parts of unknown size, or more rows than 31 bits count")
    rows, bits = int(starts[-1]), max(1, int(starts[-1]) // PARTITION_ROWS).bit_length()
    scores = list(spec.by)
    scan = Scan(
        parts=list(parts.values()),
        starts=starts,
        alive=np.zeros(rows, np.bool_),
        samples=0,
        passed=0,
        keys={score: Column(folder / f"{score.value}.keys", np.uint32) for score in scores},
        histograms={score: np.zeros(1 << 16, np.int64) for score in scores},
        labels={field: Labels(rows) for field in _label_fields(spec)},
        uids=Column(folder / "uids", f"V{UID_BYTES}"),
        repeats=Partitions(folder, "repeats", 1 << bits, np.uint64),
        copies=Partitions(folder, "copies", 1 << bits, COPY_RECORD) if spec.distinct else None,
    )
    reader = _Reader(storage, plan.id, spec, scan, bits)
    for samples, places, tops in in_threads(reader.read, _groups(starts)):
        scan.samples += samples
        scan.passed += places
        for score, counts in tops.items():
            scan.histograms[score] += counts
    return scan


def _label_fields(spec: SelectSpec) -> list[str]:
    return list(dict.fromkeys([*spec.rank_groups.values(), *([spec.quota.field] if spec.quota else [])]))


def _groups(starts: Ints) -> list[range]:
    """Return ranges of parts of about GROUP_ROWS rows."""
    wanted: Ints = np.arange(0, int(starts[-1]) + GROUP_ROWS, GROUP_ROWS)
    cuts = np.unique(np.searchsorted(starts, wanted))
    ends = [*(int(cut) for cut in cuts if 0 < cut < len(starts) - 1), len(starts) - 1]
    return [range(a, b) for a, b in zip([0, *ends], ends, strict=False) if b > a]


def key_of(scores: npt.NDArray[np.float32]) -> Keys:
    """Return integers in the order of the numbers, none of which is NaN; 0 and -0 are one."""
    bits = (scores + np.float32(0)).view(np.uint32)
    return bits ^ np.where(bits >> np.uint32(31), np.uint32(2**32 - 1), np.uint32(2**31))


def score_of(keys: Keys) -> npt.NDArray[np.float32]:
    """Return the numbers of some keys."""
    bits = keys ^ np.where(keys >> np.uint32(31), np.uint32(2**31), np.uint32(2**32 - 1))
    return bits.view(np.float32)


def mixed(upper: Longs, lower: Longs) -> Longs:
    """Return a hash of 64 bits of two halves, since uids may be consecutive numbers."""
    found = upper * np.uint64(0x9E3779B97F4A7C15) + lower
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        found = (found ^ (found >> np.uint64(shift))) * np.uint64(factor)
    return found ^ (found >> np.uint64(31))


class _Reader:
    """The work of a thread: a range of parts to columns."""

    def __init__(self, storage: Storage, plan_id: str, spec: SelectSpec, scan: Scan, bits: int) -> None:
        self._storage, self._plan_id, self._spec, self._scan = storage, plan_id, spec, scan
        self._shift = np.uint64(64 - bits)
        self._columns = _columns(spec)
        self._conditions = [c for name, wanted in spec.filters.items() for c in conditions_of(name, wanted)]
        own = "caption" if spec.distinct == CAPTION else f'"{spec.distinct}"::VARCHAR'
        hashes = f", hash({own}) AS own, hash('|' || {own}) AS more" if spec.distinct else ""
        conditions = "".join(f" AND {sql}" for sql, _ in self._conditions)
        self._db = duckdb.connect()
        self._db.execute("SET threads = 1")  # each caller is a thread of its own
        self._query = f"SELECT place{hashes} FROM part WHERE status = '{SampleStatus.OK.value}'{conditions}"

    def read(self, parts: range) -> tuple[int, int, dict[Score, Ints]]:
        """Write the columns of some parts. Return the numbers of rows with scores, and that pass, and histograms."""
        scan, first = self._scan, int(self._scan.starts[parts.start])
        data = read_parts(self._storage, self._plan_id, scan.parts[parts.start : parts.stop])
        tables = [parquet.ParquetFile(pa.BufferReader(part)).read(self._columns, use_threads=False) for part in data]
        table = pa.concat_tables(tables).append_column("place", pa.array(np.arange(sum(map(len, tables)))))
        good = np.asarray(compute.equal(table["status"], SampleStatus.OK.value))
        passing = self._passing(table)
        place = passing["place"].to_numpy()
        scan.alive[first + place] = True
        for field, labels in scan.labels.items():
            labels.encode(first, table[field])
        tops: dict[Score, Ints] = {}
        for score, column in scan.keys.items():
            keys = self._keys(table[score.value], place)
            column.write(first, keys)
            tops[score] = np.bincount(keys[place] >> np.uint32(16), minlength=1 << 16)
        row = (first + place).astype(np.uint64)
        raw = _uids(table["uid"])
        scan.uids.write(first, np.frombuffer(raw, f"V{UID_BYTES}"))
        halves = np.frombuffer(raw, ">u8").reshape(-1, 2)[place].astype(np.uint64)
        hashed = mixed(halves[:, 0], halves[:, 1])
        scan.repeats.add(hashed >> self._shift, (hashed << np.uint64(32)) | row)
        if scan.copies is not None:
            records = np.empty(len(place), COPY_RECORD)
            records["own"], records["row"] = passing["own"].to_numpy(), row
            records["more"] = passing["more"].to_numpy() & np.uint64(2**32 - 1)
            scan.copies.add(records["own"] >> self._shift, records)
        return int(np.count_nonzero(good)), len(place), tops

    def _passing(self, part: Any) -> Any:
        """Return the places, and hashes of the group of `distinct`, of the rows that pass the filters."""
        with self._db.cursor() as db:
            db.register("part", part)
            return cast(Any, db.sql(self._query, params=[value for _, value in self._conditions])).to_arrow_table()

    def _keys(self, column: Any, place: npt.NDArray[np.int64]) -> Keys:
        scores = column.to_numpy()
        passing = scores[place]
        if not np.isfinite(passing).all():
            raise OnlyBySql("a score that is null or no finite number")
        if self._spec.scale == "raw" and np.any(np.signbit(passing) & (passing == 0)):
            raise OnlyBySql("a score of -0")
        return key_of(scores)


def _columns(spec: SelectSpec) -> list[str]:
    """Return the part's columns that the rule reads."""
    names = ["status", "uid", *(score.value for score in spec.by), *spec.groups]
    for name in spec.filters:
        if name in CAPTION_MEASURES:
            names.append(CAPTION)
        else:
            names += ["image_width", "image_height"] if name in MEASURES else [name]
    return list(dict.fromkeys(names))


def _uids(column: Any) -> bytes:
    """Return the uids' bytes, 16 each. Raises OnlyBySql if one is not written as 32 hex digits."""
    uids = column.combine_chunks()
    uids = uids.combine_chunks() if isinstance(uids, pa.ChunkedArray) else uids
    _, offsets, digits = uids.buffers()
    ends = np.frombuffer(offsets, np.int32)[uids.offset : uids.offset + len(uids) + 1]
    if uids.null_count or (np.diff(ends) != 2 * UID_BYTES).any():
        raise OnlyBySql("uids that are not 32 hex digits")
    try:
        return binascii.unhexlify(memoryview(digits)[int(ends[0]) : int(ends[-1])])
    except binascii.Error as error:
        raise OnlyBySql("uids that are not 32 hex digits") from error
