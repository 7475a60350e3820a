"""`python -m coreset_workers`: take tasks from the queue until stopped. One process per device.

SIGTERM lets the running task end. Settings are CORESET_* variables (coreset.settings.WorkerSettings).
"""

import os
import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    # Before all other imports: a `torch.py` or `redis.py` of the current folder is not to run in the place of ours.
    sys.path.pop(0)
    os.environ["PYTHONSAFEPATH"] = "1"  # of processes that this one starts

import argparse
import socket
from collections.abc import Sequence
from importlib import import_module

import structlog

from coreset.access.file_view import FILE_VIEW, file_view
from coreset.access.locations import Locations
from coreset.logs import configure
from coreset.queue.task_ids import QUEUES
from coreset.queue.task_queue import TaskQueue
from coreset.redis.connection import connect
from coreset.settings import WorkerSettings
from coreset_workers.data import opening as files
from coreset_workers.process.activity import activity
from coreset_workers.process.lease import LeaseWorker
from coreset_workers.process.metrics_exporter import MetricsExporter, gpu_memory
from coreset_workers.process.runtime import Runtime, install
from coreset_workers.process.task_context import TaskContext


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parse(arguments)
    # Before torch is imported: waiting threads must sleep. Spinning ones, on cores that the loader
    # processes keep busy, made a worker up to 200 times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Loader processes inherit this: their warnings would not be lines of our log. Errors reach the task.
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    if options.device is not None:
        # The process then sees this device alone, as cuda:0.
        os.environ["CUDA_VISIBLE_DEVICES"] = options.device
    settings = WorkerSettings()
    if options.healthy:
        sys.exit(socket.gethostname() not in TaskQueue(connect(settings.redis_url, patience=0)).workers.hosts())
    configure(settings.log_format, settings.log_level)
    files.allow(Locations.parse(settings.allowed_uris))
    runtime = install(Runtime.build(settings, connect(settings.redis_url)))
    worker = LeaseWorker(
        options.queues,
        runtime.redis,
        lease=settings.lease_seconds,
        stall=60 * settings.stall_minutes,
        task_context=TaskContext(runtime.totals, activity),
        task_ended=lambda task: runtime.queue.finish_cancel(task.split("-", 1)[0]),
    )
    structlog.contextvars.bind_contextvars(worker=worker.name)
    log = structlog.get_logger("workers")
    log.info("worker started", queues=options.queues, device=options.device, pid=os.getpid())
    import_module("coreset_workers.tasks")  # now, not in the first task: torch and open_clip take seconds
    report = lambda: {FILE_VIEW: file_view(), **gpu_memory()}  # noqa: E731
    with MetricsExporter(runtime.totals, activity, worker.name, report):
        worker.work(burst=options.burst, logging_level=None)
    log.info("worker stopped")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m coreset_workers", description="Take tasks from the queue.")
    parser.add_argument("--queues", nargs="+", choices=QUEUES, default=list(QUEUES), help="in order of preference")
    parser.add_argument("--device", metavar="N", help="the GPU this worker sees (CUDA_VISIBLE_DEVICES)")
    parser.add_argument("--burst", action="store_true", help="stop when the queues are empty")
    parser.add_argument("--healthy", action="store_true", help="start no worker; exit 0 if one on this host is alive")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
