"""The worker process: lease, runtime, activities, metrics, and progress of the running task."""

from coreset_workers.process import activity, lease, metrics_exporter, queue_reporter, runtime, task_context

__all__ = ["activity", "lease", "metrics_exporter", "queue_reporter", "runtime", "task_context"]
