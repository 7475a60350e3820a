"""Cache of the score tables of the jobs that were read last."""

import threading
from collections import OrderedDict

from coreset.browsing.score_table import ScoreTable
from coreset.storage.layout import load_result
from coreset.storage.storage import Storage

MAX_OPEN_TABLES = 2


class ScoreTableCache:
    """The tables of the MAX_OPEN_TABLES jobs that were read last.

    A table that makes room is dropped, not closed: a thread may still read it, and the last one closes it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tables: OrderedDict[str, ScoreTable] = OrderedDict()

    def get(self, storage: Storage, job_id: str) -> ScoreTable:
        """Return the table of a job that has succeeded."""
        with self._lock:
            table = self._tables.pop(job_id, None) or _open(storage, job_id)
            self._tables[job_id] = table
            while len(self._tables) > MAX_OPEN_TABLES:
                self._tables.popitem(last=False)
            return table


def _open(storage: Storage, job_id: str) -> ScoreTable:
    manifest, plan = load_result(storage, job_id)
    return ScoreTable(storage, plan, manifest.selection)
