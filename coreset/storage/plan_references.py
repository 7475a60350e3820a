"""Which jobs use a plan or a trained run: an empty file per job in its folder. The last job removes the folder.

Files, so that a Redis that was lost does not make a plan seem unused.
"""

import time

from coreset.errors import Unavailable
from coreset.redis.locks import Locks
from coreset.storage.layout import PlanFolder, RunFolder
from coreset.storage.storage import Storage

REMOVAL_SECONDS = 600.0
"""Seconds after which a removal that has not ended counts as dead."""

Shared = PlanFolder | RunFolder
"""A folder that several jobs use."""

PAUSE_SECONDS = 0.2
"""Pause between two reads of a removal's lock."""


def add_reference(storage: Storage, locks: Locks, folder: Shared, job_id: str) -> None:
    """Record that the job uses the folder, before it relies on any of its files.

    Waits while the folder is being removed. A removal lists the references while it has the lock, so it misses none
    that was written before.
    """
    write_reference(storage, folder, job_id)
    while locks.taken(_lock(folder)):
        time.sleep(PAUSE_SECONDS)
        write_reference(storage, folder, job_id)


def write_reference(storage: Storage, folder: Shared, job_id: str) -> None:
    """Record that the job uses the folder, without regard to removals: for a job without a service."""
    storage.write(folder.reference(job_id), b"")


def remove_reference(storage: Storage, locks: Locks, folder: Shared, job_id: str) -> bool:
    """Remove the job's reference, and the whole folder if no other job uses it. Return whether the folder went.

    Raises:
        Unavailable: another job's reference is being removed; try again.
    """
    if not locks.acquire(_lock(folder), REMOVAL_SECONDS):
        raise Unavailable(f"{folder.root} is being removed; try again in a few seconds")
    try:
        storage.delete(folder.reference(job_id))
        last = not storage.names(folder.references)
        if last:
            storage.delete(folder.root)
    finally:
        locks.release(_lock(folder))
    return last


def _lock(folder: Shared) -> str:
    kind, name = folder.root.split("/")
    return f"remove-{kind.removesuffix('s')}-{name}"
