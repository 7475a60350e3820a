"""Names of the modules that the contract starts but never imports: they live in other distributions.

tests/test_entry_points.py checks that each of them resolves.
"""

import sys

SERVICE_MODULE = "coreset_service"
"""`python -m` this serves HTTP."""

WORKER_MODULE = "coreset_workers"
"""`python -m` this takes tasks from the queue."""

LOCAL_MODULE = "coreset_workers.local"
"""`python -m` this runs a whole job without a service."""

UNLEARNING_MODULE = "coreset_workers.unlearning"
"""`python -m` this removes samples from trained weights."""

CONVERSION_MODULE = "coreset_workers.conversion"
"""`python -m` this writes a pool as WebDataset shards."""

TASKS_MODULE = "coreset_workers.tasks"
"""Module of the functions that RQ messages name."""

PREFLIGHT_TASK = "coreset_workers.tasks.check"
"""The function that RQ messages of a preflight name."""


def module_command(module: str, *arguments: str) -> list[str]:
    """Return the command line that runs a module in a process of its own.

    With -P the current folder is not on the path: a `coreset_workers.py` or `redis.py` there is not imported instead.
    """
    return [sys.executable, "-P", "-m", module, *arguments]
