"""Names of RQ queues and ids of tasks. Ids are deterministic, so that adding a task twice adds it once."""

from collections.abc import Iterator

from coreset.queue.merge_tree import merge_levels

CPU, GPU = "cpu", "gpu"
QUEUES = (CPU, GPU)
"""Names in the order in which a worker that serves both takes tasks: merges end jobs, so their queue goes first."""

LAST_TASKS = ("prepare", "train", "finish", "conclude")
"""Kinds of tasks without which a job does not end."""


def task_id(job_id: str, name: str, *indices: int) -> str:
    """Return the RQ id of a task: letters, digits, `_` and `-` only, as RQ requires."""
    return "-".join([job_id, name, *map(str, indices)])


def job_of(rq_id: str) -> str:
    """Return the job of a task."""
    return rq_id.split("-", 1)[0]


def kind_of(rq_id: str) -> str:
    """Return the name of a task."""
    return rq_id.split("-")[1]


def job_task_ids(job_id: str, scores: int, trials: int, stretches: int = 0) -> Iterator[str]:
    """Yield the ids of all tasks that a job with these numbers of tasks has, dependents first.

    Args:
        stretches: of its training.
    """
    if trials:
        yield task_id(job_id, "conclude")
        yield from (task_id(job_id, "trial", index) for index in range(trials))
    yield task_id(job_id, "finish")
    for level, nodes in reversed(list(enumerate(merge_levels(scores)))):
        yield from (task_id(job_id, "merge", level, node) for node in range(len(nodes)))
    yield from (task_id(job_id, "score", index) for index in range(scores))
    yield from (task_id(job_id, "train", index) for index in reversed(range(stretches)))
    yield task_id(job_id, "prepare")
