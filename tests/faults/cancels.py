"""Cancel a job in each of its states; it stops soon, leaves nothing on the queue, keeps its parts, and can go on."""

import time
from random import Random

from coreset.errors import Conflict
from coreset.schemas.job import JobStatus
from tests.faults.kills import some_done
from tests.faults.lab import Lab, Missed, until

STOPS_WITHIN = 5.0


def cancel(lab: Lab, random: Random, status: JobStatus) -> float:
    """Returns the seconds from the cancel to `cancelled`."""
    lab.clear()
    job_id = lab.submit() if status is not JobStatus.QUEUED else _queued(lab)
    if status is JobStatus.SCORING:
        some_done(lab, random)
    elif status is not JobStatus.QUEUED:
        lab.reach(job_id, status)
        time.sleep(random.uniform(0, 0.5) if status is JobStatus.PREPARING else 0)
    asked = time.monotonic()
    try:
        lab.client.cancel(job_id)
    except Conflict as error:
        raise Missed("the job ended before it was cancelled") from error
    until(lambda: lab.status(job_id) is JobStatus.CANCELLED, "cancelled", 30)
    seconds = time.monotonic() - asked
    lab.wake_workers()
    assert seconds < STOPS_WITHIN, f"it took {seconds:.1f} s"
    lab.assert_no_orphan(job_id)
    kept = lab.times()
    lab.assert_undisturbed(lab.submit())
    assert kept.items() <= lab.times().items(), "parts that were there were computed again"
    return seconds


def _queued(lab: Lab) -> str:
    """Post a job that no worker takes, since all of them are stopped."""
    lab.stop_workers()
    return lab.submit()
