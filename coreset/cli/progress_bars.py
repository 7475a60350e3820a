"""Progress of a job or a command on stderr: bars on a terminal, dated lines elsewhere."""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from operator import itemgetter
from typing import TypeVar

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from coreset.cli.output import err
from coreset.cli.tables import job_line, local_time, shard_facts
from coreset.client import Client
from coreset.schemas.job import TERMINAL, Job

T = TypeVar("T")

COLUMNS = (TextColumn("{task.description:>10}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
LINE_SECONDS = 30.0
"""Seconds between the lines about a job whose state does not change."""


def wait_with_progress(client: Client, job_id: str) -> Job:
    """Wait until the job has ended, and show its progress on stderr."""
    with job_progress() as update:
        return client.wait(job_id, progress=update)


@contextmanager
def job_progress() -> Generator[Callable[[Job], None]]:
    """Yield a function that shows a job's newest state."""
    with job_bars() if err.is_terminal else job_lines() as update:
        yield update


@contextmanager
def job_bars() -> Generator[Callable[[Job], None]]:
    """Show two bars: the whole job with its stage, and its shards with rate and time left."""
    with Progress(*COLUMNS, TextColumn("{task.fields[facts]}"), console=err) as bars:
        whole = bars.add_task("queued", total=1.0, facts="")
        shards = bars.add_task("shards", total=None, facts="", visible=False)

        def update(job: Job) -> None:
            counts = job.progress.shards
            stage = job.progress.stage
            bars.update(whole, description=job.status.value, completed=job.progress.fraction, facts=stage)
            bars.update(
                shards,
                completed=counts.done + counts.failed,
                total=counts.total or None,
                visible=counts.total > 0,
                facts=shard_facts(job),
            )

        yield update


@contextmanager
def job_lines(seconds: float = LINE_SECONDS) -> Generator[Callable[[Job], None]]:
    """Print a line at each change of the job's status or stage, and one every `seconds`."""
    with _lines(seconds, _state, lambda job: _print_line(job), lambda job: job.status in TERMINAL) as update:
        yield update


@contextmanager
def stage_progress() -> Generator[Callable[[str, float], None]]:
    """Yield a function that shows the stage of something other than a job, and the share of it all that is done."""
    with stage_bar() if err.is_terminal else stage_lines() as update:
        yield update


@contextmanager
def stage_bar() -> Generator[Callable[[str, float], None]]:
    columns = (BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=err) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda stage, share: bar.update(task, description=stage, completed=share)
        bar.update(task, description="done", completed=1.0)


@contextmanager
def stage_lines(seconds: float = LINE_SECONDS) -> Generator[Callable[[str, float], None]]:
    """Print a line at each change of the stage, and one every `seconds`."""
    with _lines(seconds, itemgetter(0), lambda now: _print_stage(*now), lambda _: False) as update:
        yield lambda stage, share: update((stage, share))


@contextmanager
def _lines(
    seconds: float, state: Callable[[T], object], show: Callable[[T], None], over: Callable[[T], bool]
) -> Generator[Callable[[T], None]]:
    """Yield a function that takes the newest progress: shown when its state changes, and every `seconds` until its end.

    A thread does the latter: a long poll answers changes only, and one stage may last for minutes.
    """
    newest: list[T] = []
    lock, stopping = threading.Lock(), threading.Event()

    def update(now: T) -> None:
        with lock:
            changed = not newest or state(newest[0]) != state(now)
            newest[:] = [now]
            if changed:
                show(now)

    def repeat() -> None:
        while not stopping.wait(seconds):
            with lock:
                if newest and not over(newest[0]):
                    show(newest[0])

    thread = threading.Thread(target=repeat, name="progress-lines", daemon=True)
    thread.start()
    try:
        yield update
    finally:
        stopping.set()
        thread.join()


def _state(job: Job) -> tuple[str, str]:
    return job.status.value, job.progress.stage


def _print_stage(stage: str, share: float) -> None:
    err.print(Text(f"{local_time(datetime.now(UTC))}  {share:.0%} {stage}"), soft_wrap=True)


def _print_line(job: Job) -> None:
    facts = f"{job.status.value} {job.progress.fraction:.0%} {job_line(job)}"
    err.print(Text(f"{local_time(datetime.now(UTC))}  {job.id}  {facts}"), soft_wrap=True)
