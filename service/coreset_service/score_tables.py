"""Cache of the score tables of the jobs that users browse."""

import threading
from collections import OrderedDict

from coreset.browsing.score_table import Look
from coreset.schemas.manifest import Manifest
from coreset.schemas.plan import Plan
from coreset.storage.storage import Storage

MAX_TABLES = 2
"""Tables kept in memory at the same time."""


class ScoreTables:
    """Least recently used cache of score tables, by job.

    An evicted table is dropped, not closed: a thread may still read it, and the last reader closes it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tables: OrderedDict[str, Look] = OrderedDict()

    def of(self, storage: Storage, job_id: str) -> Look:
        """Return the table of a job that has succeeded."""
        with self._lock:
            table = self._tables.pop(job_id, None) or _open(storage, job_id)
            self._tables[job_id] = table
            while len(self._tables) > MAX_TABLES:
                self._tables.popitem(last=False)
            return table


def _open(storage: Storage, job_id: str) -> Look:
    manifest = Manifest.model_validate_json(storage.read(f"jobs/{job_id}/manifest.json"))
    plan = Plan.from_json(storage.read(f"plans/{manifest.plan_id}/plan.json"))
    return Look(storage, plan, manifest.selection)
