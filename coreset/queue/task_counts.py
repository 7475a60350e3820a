"""Numbers of a job's stretches of training, score tasks and trials, from which the ids of its tasks follow."""

from coreset.queue.job_scripts import JobScripts
from coreset.queue.progress import FINISH_SHARE
from coreset.redis.keys import job_keys


class TaskCounts:
    """All methods raise Unavailable when Redis does not answer; those that write raise NotFound."""

    def __init__(self, scripts: JobScripts) -> None:
        self._scripts = scripts

    def set_scores(self, job_id: str, tasks: int) -> None:
        """Record the number of score tasks."""
        self._scripts.set_fields(job_id, "tasks", tasks)

    def scores(self, job_id: str) -> int:
        """Return the number of score tasks; 0 before they exist."""
        return int(self._scripts.field(job_id, "tasks") or 0)

    def set_stretches(self, job_id: str, stretches: int) -> None:
        """Record the number of stretches of the job's training, so far."""
        self._scripts.set_fields(job_id, "stretches", stretches)

    def stretches(self, job_id: str) -> int:
        """Return the number of stretches of the job's training; 0 for a job that trains nothing."""
        return int(self._scripts.field(job_id, "stretches") or 0)

    def set_trials(self, job_id: str, trials: int) -> None:
        """Record the number of trials of the job's evaluation."""
        self._scripts.set_fields(job_id, "trials", trials)

    def trials(self, job_id: str) -> int:
        """Return the number of trials; 0 before they exist."""
        return int(self._scripts.field(job_id, "trials") or 0)

    def advance_trial(self, job_id: str, trial: int, fraction: float, trials: int) -> None:
        """Record the progress of one of `trials` trials, 0 to 1."""
        keys = job_keys(job_id)
        arguments = [trial, round(fraction, 4), trials, FINISH_SHARE]
        self._scripts.run("advance_trial", [keys.record, keys.trials], arguments, job_id)
