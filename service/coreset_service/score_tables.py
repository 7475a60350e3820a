"""The jobs that people look at now: a table each, made at the first question and kept for the next ones."""

import threading
from collections import OrderedDict

from coreset.browsing.score_table import Look
from coreset.schemas.manifest import Manifest
from coreset.schemas.plan import Plan
from coreset.storage.storage import Storage

KEPT = 2


class Looks:
    """The tables of the KEPT jobs that were asked for last.

    One that makes room is dropped, not closed: a thread may still be at it, and the last one closes it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._looks: OrderedDict[str, Look] = OrderedDict()

    def of(self, storage: Storage, job_id: str) -> Look:
        """Return the table of a job that has succeeded."""
        with self._lock:
            look = self._looks.pop(job_id, None) or _open(storage, job_id)
            self._looks[job_id] = look
            while len(self._looks) > KEPT:
                self._looks.popitem(last=False)
            return look


def _open(storage: Storage, job_id: str) -> Look:
    manifest = Manifest.model_validate_json(storage.read(f"jobs/{job_id}/manifest.json"))
    plan = Plan.from_json(storage.read(f"plans/{manifest.plan_id}/plan.json"))
    return Look(storage, plan, manifest.selection)
