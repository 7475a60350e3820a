"""Which jobs use a plan, told by an empty file a job beside it: plans/ID/jobs/JOB. The last job to leave removes it.

Files, since a Redis that was lost must not make a plan look unused.
"""

import time

from coreset.errors import Unavailable
from coreset.queue.job_store import JobStore
from coreset.storage.storage import Storage

REMOVAL_SECONDS = 600.0
"""A removal that has not ended then is taken for dead."""

PAUSE_SECONDS = 0.2


def join(storage: Storage, store: JobStore, plan_id: str, job_id: str) -> None:
    """Note that the job uses the plan, before it relies on any of its files.

    Waits while the plan is being removed: whoever removes looks at the notes behind the lock, and so misses none that
    was written before.
    """
    note(storage, plan_id, job_id)
    while store.turn_taken(_lock(plan_id)):
        time.sleep(PAUSE_SECONDS)
        note(storage, plan_id, job_id)


def note(storage: Storage, plan_id: str, job_id: str) -> None:
    """Note that the job uses the plan, without a look at removals: for a job that no service knows."""
    storage.write(f"{_notes(plan_id)}/{job_id}", b"")


def leave(storage: Storage, store: JobStore, plan_id: str, job_id: str) -> bool:
    """Take the job's note away, and the plan with its parts when no other job has one. Returns whether it went.

    Raises:
        Unavailable: another job leaves just now; try again.
    """
    if not store.take_turn(_lock(plan_id), REMOVAL_SECONDS):
        raise Unavailable(f"plan {plan_id} is being removed")
    try:
        storage.delete(f"{_notes(plan_id)}/{job_id}")
        last = not storage.names(_notes(plan_id))
        if last:
            storage.delete(f"plans/{plan_id}")
    finally:
        store.end_turn(_lock(plan_id))
    return last


def _notes(plan_id: str) -> str:
    return f"plans/{plan_id}/jobs"


def _lock(plan_id: str) -> str:
    return f"remove-plan-{plan_id}"
