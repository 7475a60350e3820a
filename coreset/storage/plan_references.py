"""Which jobs use a plan: an empty file per job beside it (`PlanFolder.reference`). The last job removes the plan.

Files, so that a Redis that was lost does not make a plan seem unused.
"""

import time

from coreset.errors import Unavailable
from coreset.redis.locks import Locks
from coreset.storage.layout import PlanFolder
from coreset.storage.storage import Storage

REMOVAL_SECONDS = 600.0
"""Seconds after which a removal that has not ended counts as dead."""

PAUSE_SECONDS = 0.2
"""Pause between two reads of a removal's lock."""


def add_reference(storage: Storage, locks: Locks, plan_id: str, job_id: str) -> None:
    """Record that the job uses the plan, before it relies on any of its files.

    Waits while the plan is being removed. A removal lists the references while it has the lock, so it misses none that
    was written before.
    """
    write_reference(storage, plan_id, job_id)
    while locks.taken(_lock(plan_id)):
        time.sleep(PAUSE_SECONDS)
        write_reference(storage, plan_id, job_id)


def write_reference(storage: Storage, plan_id: str, job_id: str) -> None:
    """Record that the job uses the plan, without regard to removals: for a job without a service."""
    storage.write(PlanFolder(plan_id).reference(job_id), b"")


def remove_reference(storage: Storage, locks: Locks, plan_id: str, job_id: str) -> bool:
    """Remove the job's reference, and the plan with its parts if no other job uses it. Return whether the plan went.

    Raises:
        Unavailable: another job's reference is being removed; try again.
    """
    if not locks.acquire(_lock(plan_id), REMOVAL_SECONDS):
        raise Unavailable(f"plan {plan_id} is being removed; try again in a few seconds")
    folder = PlanFolder(plan_id)
    try:
        storage.delete(folder.reference(job_id))
        last = not storage.names(folder.references)
        if last:
            storage.delete(folder.root)
    finally:
        locks.release(_lock(plan_id))
    return last


def _lock(plan_id: str) -> str:
    return f"remove-plan-{plan_id}"
