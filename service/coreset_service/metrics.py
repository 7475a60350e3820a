"""Metrics: requests of this process, and jobs, tasks and workers of the whole system, read from Redis at each scrape.

Replicas export equal values for jobs, tasks and workers: aggregate with `max`, not with `sum`.
"""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from starlette.types import Scope

from coreset.errors import Unavailable
from coreset.queue.job_store import JobStore
from coreset.queue.task_queue import TaskQueue
from coreset.redis.counters import Counters
from coreset.schemas.job import TERMINAL, JobStatus
from coreset.schemas.part import SampleStatus
from coreset.storage.verified import KINDS, damage_counts, take_damage

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""Upper bounds in seconds. Long polls (`wait=60`) fall into the last ones."""

disable_created_metrics()  # a second series per counter that no dashboard uses

TASKS = ("check", "conclude", "finish", "merge", "prepare", "score", "train", "trial")
DOING = ("data", "idle", "model", "other")

METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")

NO_ROUTE = "none"
"""Label of all unknown addresses: one, since callers can invent any number of them."""


class RequestMeter:
    """Counts the requests of this process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._answers = Counter(
            "coreset_http_requests", "answered requests", ["method", "route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "coreset_http_request_seconds",
            "until the answer began",
            ["method", "route"],
            buckets=BUCKETS,
            registry=registry,
        )

    def answered(self, scope: Scope, status: int, seconds: float) -> None:
        """Count an answer; `status` is 0 if the caller disconnected before it."""
        route = getattr(scope.get("route"), "path", NO_ROUTE)
        method = scope["method"] if scope["method"] in METHODS else "other"  # a caller may send any method
        self._answers.labels(method, route, status).inc()
        self._seconds.labels(method, route).observe(seconds)


class SystemCollector(Collector):
    """Metrics of jobs, tasks, workers and counters in Redis."""

    def __init__(self, store: JobStore, queue: TaskQueue, totals: Counters) -> None:
        self._store = store
        self._queue = queue
        self._totals = totals

    def describe(self) -> Iterable[Metric]:
        """Return nothing, so that registering does not ask Redis."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Return all metrics; while Redis does not answer, only that it does not."""
        try:
            found = [*self._counters(), self._jobs(), self._tasks(), *self._workers()]
        except Unavailable:
            return [_gauge("redis_up", "1 if Redis answers", [((), 0)])]
        return [_gauge("redis_up", "1 if Redis answers", [((), 1)]), *found]

    def _counters(self) -> list[Metric]:
        if found := take_damage():  # by this process's own reads
            self._totals.add(damage_counts(found))
        totals = self._totals.read()
        return [
            _counter(totals, "jobs_ended", "jobs that have ended", "jobs", "status", sorted(TERMINAL)),
            _counter(totals, "shards", "shards by outcome", "shards", "outcome", ["scored", "resumed", "failed"]),
            _counter(totals, "samples", "samples of scored shards; ok is scored", "samples", "status", SampleStatus),
            _counter(totals, "task_attempts", "attempts begun", "attempts", "task", TASKS),
            _counter(totals, "task_seconds", "time of attempts that have ended", "task_seconds", "task", TASKS),
            _counter(totals, "task_failures", "tasks failed for good", "failures", "task", TASKS),
            _counter(totals, "worker_seconds", "how the workers' time went", "worker_seconds", "doing", DOING),
            _counter(totals, "damaged_files", "stored files that failed their check", "damaged_files", "kind", KINDS),
            _total(totals, "leases_expired", "attempts whose worker died or was cut off"),
        ]

    def _jobs(self) -> Metric:
        open_jobs = list(self._store.listing.active().values())
        counts = {(str(status),): open_jobs.count(status) for status in JobStatus if status not in TERMINAL}
        return _gauge("jobs", "jobs that have not ended", counts.items(), "status")

    def _tasks(self) -> Metric:
        waiting, running = self._queue.census.waiting_counts(), self._queue.census.running_counts()
        counts = {(queue, "waiting"): number for queue, number in waiting.items()}
        counts |= {(queue, "running"): number for queue, number in running.items()}
        return _gauge("tasks", "tasks that wait, and that a worker holds", counts.items(), "queue", "state")

    def _workers(self) -> list[Metric]:
        states = self._queue.workers.states()
        counts = {(state,): list(states.values()).count(state) for state in ("busy", "idle")}
        memory = {
            (worker, says["gpu"], kind): value
            for worker, says in self._totals.reports(states).items()
            for kind, value in says.get("gpu_memory", {}).items()
        }
        return [
            _gauge("workers", "living workers", counts.items(), "state"),
            _gauge("gpu_memory_bytes", "of a worker's GPU", memory.items(), "worker", "gpu", "kind"),
        ]


def build_registry(store: JobStore, queue: TaskQueue, totals: Counters) -> CollectorRegistry:
    """Return a registry with the metrics of process and system; one per app, so that tests do not share counts."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(SystemCollector(store, queue, totals))
    return registry


def _gauge(name: str, text: str, values: Iterable[tuple[tuple[str, ...], float]], *labels: str) -> Metric:
    metric = GaugeMetricFamily(f"coreset_{name}", text, labels=labels)
    for key, value in values:
        metric.add_metric(key, value)
    return metric


def _counter(
    totals: dict[str, float], name: str, text: str, group: str, label: str, always: Iterable[str]
) -> CounterMetricFamily:
    """Return a group of counters. Labels in `always` start at 0, since `increase` misses a series that starts at 1."""
    values = {str(key): 0.0 for key in always}
    values |= {f.split(":", 1)[1]: value for f, value in totals.items() if f.startswith(f"{group}:")}
    metric = CounterMetricFamily(f"coreset_{name}", text, labels=[label])
    for key, value in sorted(values.items()):
        metric.add_metric([key], value)
    return metric


def _total(totals: dict[str, float], field: str, text: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"coreset_{field}", text, value=totals.get(field, 0.0))
