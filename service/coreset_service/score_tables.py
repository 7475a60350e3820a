"""Caches for the jobs that users browse: score tables, and counts by group."""

import threading
from collections import OrderedDict

from coreset.browsing.group_counts import group_counts
from coreset.browsing.score_table import ScoreTable
from coreset.schemas.group_counts import GroupCounts
from coreset.storage.layout import load_result
from coreset.storage.storage import Storage

MAX_TABLES = 2
"""Tables kept in memory at the same time."""

MAX_GROUP_COUNTS = 100
"""Counts kept in memory; each has some 30 kB, a caption for each of 100 groups."""


class ScoreTables:
    """Least recently used cache of score tables, by job.

    An evicted table is dropped, not closed: a thread may still read it, and the last reader closes it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tables: OrderedDict[str, ScoreTable] = OrderedDict()

    def of(self, storage: Storage, job_id: str) -> ScoreTable:
        """Return the table of a job that has succeeded."""
        with self._lock:
            table = self._tables.pop(job_id, None) or _open(storage, job_id)
            self._tables[job_id] = table
            while len(self._tables) > MAX_TABLES:
                self._tables.popitem(last=False)
            return table


class GroupCountCache:
    """Least recently used cache of the counts by group. A job that has succeeded never changes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: OrderedDict[tuple[str, str], GroupCounts] = OrderedDict()

    def of(self, storage: Storage, job_id: str, field: str) -> GroupCounts:
        """Return the counts of a job that has succeeded. Raises InvalidInput for a field that does not group it."""
        with self._lock:
            if (known := self._counts.get((job_id, field))) is not None:
                self._counts.move_to_end((job_id, field))
                return known
        manifest, plan = load_result(storage, job_id)
        counts = group_counts(storage, plan, manifest.selection, field)
        with self._lock:
            self._counts[job_id, field] = counts
            while len(self._counts) > MAX_GROUP_COUNTS:
                self._counts.popitem(last=False)
        return counts


def _open(storage: Storage, job_id: str) -> ScoreTable:
    manifest, plan = load_result(storage, job_id)
    return ScoreTable(storage, plan, manifest.selection)
