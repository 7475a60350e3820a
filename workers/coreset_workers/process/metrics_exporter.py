"""Exporter of a worker's own metrics: adds the use of its time and its GPU memory to Redis every few seconds."""

import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import structlog

from coreset.errors import CoresetError
from coreset.redis.counters import Counters
from coreset_workers.process.activity import Activity

SECONDS = 5.0
"""Seconds between two reports."""

GAUGE_SECONDS = 4 * SECONDS
"""Seconds for which the service still shows a worker's gauges after its last report."""

log = structlog.get_logger("coreset_workers.process.metrics_exporter")


class MetricsExporter:
    """Context manager with a thread of its own, so that a worker that hangs in a task still reports.

    Args:
        worker: the worker's name in the queue.
        gauges: returns the worker's gauges as JSON; called in the thread.
    """

    def __init__(self, totals: Counters, activity: Activity, worker: str, gauges: Callable[[], dict[str, Any]]) -> None:
        self._totals = totals
        self._activity = activity
        self._worker = worker
        self._gauges = gauges
        self._reported: dict[str, float] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics-exporter", daemon=True)

    def report(self) -> None:
        """Add the time since the last report. If Redis does not answer, the next report includes it."""
        seconds = {f"worker_seconds:{what}": value for what, value in self._activity.seconds().items()}
        if self._totals.add({field: value - self._reported.get(field, 0.0) for field, value in seconds.items()}):
            self._reported = seconds
        try:
            self._totals.save_report(self._worker, GAUGE_SECONDS, self._gauges())
        except CoresetError as error:
            log.warning("worker metrics not reported", detail=error.detail)

    def __enter__(self) -> Self:
        self.report()  # the service judges paths by it as soon as the worker is alive
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
                log.exception("reporting worker metrics failed")


def gpu_memory() -> dict[str, Any]:
    """Return the GPU's name and memory in bytes: total, used by all processes, and this process's peak.

    Empty without a GPU, and until the worker uses it: asking earlier would allocate GPU memory.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return {}
    free, total = torch.cuda.mem_get_info()
    memory = {"total": total, "used": total - free, "peak": torch.cuda.max_memory_allocated()}
    return {"gpu": torch.cuda.get_device_name(), "gpu_memory": memory}
