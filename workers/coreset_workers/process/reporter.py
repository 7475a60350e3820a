"""Tells Redis, every few seconds, how a worker's time went and what its GPU holds."""

import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import structlog

from coreset.errors import CoresetError
from coreset.queue.counters import Counters
from coreset_workers.process.activity import Activity

SECONDS = 5.0
KEPT_SECONDS = 4 * SECONDS
"""So long a worker's own word is shown after it was last heard of."""

log = structlog.get_logger("coreset_workers.process.reporter")


class Reporter:
    """A thread of its own, so that a worker that hangs in a task still tells. Use it in a `with`.

    Args:
        worker: its name in the queue.
        says: what the worker says of itself, as JSON; called in the thread.
    """

    def __init__(self, totals: Counters, activity: Activity, worker: str, says: Callable[[], dict[str, Any]]) -> None:
        self._totals = totals
        self._activity = activity
        self._worker = worker
        self._says = says
        self._told: dict[str, float] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)

    def report(self) -> None:
        """Add the time since the last report. What cannot be told now is told by the next one."""
        seconds = {f"worker_seconds:{what}": value for what, value in self._activity.seconds().items()}
        if self._totals.add({field: value - self._told.get(field, 0.0) for field, value in seconds.items()}):
            self._told = seconds
        try:
            self._totals.save_report(self._worker, KEPT_SECONDS, self._says())
        except CoresetError as error:
            log.warning("not told", detail=error.detail)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()
        self.report()

    def _run(self) -> None:
        while not self._stopping.wait(SECONDS):
            try:
                self.report()
            except Exception:
                log.exception("reporting failed")


def gpu_memory() -> dict[str, Any]:
    """Return the GPU's name and its memory in bytes: total, used by anybody, and the most that this process had.

    Empty without a GPU, and until the worker has begun to use it: asking earlier would take the GPU's memory.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return {}
    free, total = torch.cuda.mem_get_info()
    memory = {"total": total, "used": total - free, "peak": torch.cuda.max_memory_allocated()}
    return {"gpu": torch.cuda.get_device_name(), "gpu_memory": memory}
