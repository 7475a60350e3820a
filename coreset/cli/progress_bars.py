"""A job on its way, as bars on stderr: the whole job with its stage, and its shards with rate and time left."""

from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from coreset.cli.output import err
from coreset.client import Client
from coreset.schemas.job import Job

COLUMNS = (TextColumn("{task.description:>10}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())


def wait_live(client: Client, job_id: str) -> Job:
    """Wait with live bars."""
    with job_bars() as update:
        return client.wait(job_id, progress=update)


@contextmanager
def job_bars() -> Generator[Callable[[Job], None]]:
    """Give a function that shows a job as it is now."""
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


def shard_facts(job: Job) -> str:
    """Return what is known of the shards, in one line."""
    progress = job.progress
    counts = progress.shards
    facts = [f"{counts.done}/{counts.total}"]
    facts += [f"{counts.running} running"] if counts.running else []
    facts += [f"{counts.failed} failed"] if counts.failed else []
    facts += [f"{progress.samples_per_second:,.0f} samples/s"] if progress.samples_per_second else []
    facts += [f"{progress.eta_seconds:,.0f} s left"] if progress.eta_seconds is not None else []
    return " · ".join(facts)
