"""Jobs, results and selections for the eye."""

from datetime import datetime

from rich.markup import escape
from rich.table import Table

from coreset.cli.output import out
from coreset.cli.progress_bars import shard_facts
from coreset.schemas.events import Ended, JobEvent, Progressed, StatusChanged, Warned
from coreset.schemas.job import Job, JobStatus
from coreset.schemas.manifest import SUSPECTS, Manifest, Selection

COLOURS = {JobStatus.SUCCEEDED: "green", JobStatus.FAILED: "red", JobStatus.CANCELLED: "yellow"}


def job_line(job: Job) -> str:
    """Return the facts that change, in one line."""
    stage = job.progress.stage
    return f"{stage} · shards {shard_facts(job)}" if job.progress.shards.total else stage


def event_line(event: JobEvent) -> str:
    """Return an event as one line with its time."""
    if isinstance(event, StatusChanged | Ended):
        colour = COLOURS.get(event.status, "cyan")
        told = f"[{colour}]{event.status.value}[/{colour}]"
        told += escape(f" {event.reason.code}: {event.reason.message}") if event.reason else ""
    elif isinstance(event, Progressed):
        counts = event.progress.shards
        told = f"{event.progress.fraction:.0%} {event.progress.stage}"
        told += f", shards {counts.done}/{counts.total}" if counts.total else ""
    elif isinstance(event, Warned):
        told = f"[yellow]warning[/yellow] {escape(event.text)}"
    else:
        told = f"[red]shard failed[/red] {escape(f'{event.uri}: {event.message}')}"
    return f"{when(event.at)}  {told}"


def show_job(job: Job) -> None:
    colour = COLOURS.get(job.status, "cyan")
    rows = {"job": job.id, "status": f"[{colour}]{job.status.value}[/{colour}]  {job.progress.fraction:.0%}"}
    if job.reason:
        rows["reason"] = escape(f"{job.reason.code}: {job.reason.message}")
    else:
        rows["progress"] = job_line(job)
    samples = job.progress.samples
    if samples.read:
        rows["samples"] = samples_text(samples.scored, samples.read, samples.duplicates, samples.bad)
    if job.progress.devices:
        rows["devices"] = ", ".join(job.progress.devices)
    if job.spec.clean and job.status is JobStatus.SUCCEEDED:
        rows["suspects"] = f"coreset report {job.id} --open; coreset result {job.id} --out {SUSPECTS}"
    show_rows(rows)
    for failure in job.failed_shards:
        show_rows({"failed": escape(f"{failure.uri}: {failure.message}")})
    show_warnings(job.warnings)


def samples_text(scored: int, read: int, duplicates: int, bad: dict[str, int]) -> str:
    """Return the counts of samples in one line: `46 scored of 48, 4 duplicates (bad: no_image 2)`."""
    text = f"{scored:,} scored of {read:,}" + (f", {duplicates:,} duplicates" if duplicates else "")
    reasons = ", ".join(f"{kind} {count:,}" for kind, count in bad.items())
    return text + (f" (bad: {reasons})" if reasons else "")


def show_jobs(jobs: list[Job]) -> None:
    table = Table(box=None)
    for heading in ("job", "status", "progress", "created"):
        table.add_column(heading, no_wrap=True, overflow="fold")
    table.add_column("what")
    for job in jobs:
        colour = COLOURS.get(job.status, "cyan")
        status = f"[{colour}]{job.status.value}[/{colour}]"
        table.add_row(job.id, status, f"{job.progress.fraction:.0%}", when(job.created_at), job_line(job))
    out.print(table, highlight=False)


def show_result(manifest: Manifest) -> None:
    rows = {
        "samples": samples_text(manifest.scored, manifest.read, manifest.duplicates, manifest.bad),
        "parts": f"{len(manifest.parts):,} Parquet files",
    }
    if manifest.report:
        rows["report"] = manifest.report.uri
    show_rows(rows)
    show_warnings([warning for warning in manifest.warnings if warning not in manifest.selection.warnings])
    show_selection(manifest.selection)


def show_selection(selection: Selection) -> None:
    by = " + ".join(f"{weight:g} {score.value}" for score, weight in selection.spec.by.items())
    rows = {
        "selection": selection.id,
        "size": f"{selection.k:,} of {selection.rankable:,} rankable samples"
        + (f" ({selection.duplicates:,} duplicates left out)" if selection.duplicates else ""),
        "by": f"{by} ({selection.spec.combine})",
    }
    show_rows(rows | {name: file.uri for name, file in selection.files.items()})
    show_warnings(selection.warnings)


def show_warnings(warnings: list[str]) -> None:
    for warning in warnings:
        show_rows({"warning": f"[yellow]{escape(warning)}[/yellow]"})


def show_rows(rows: dict[str, str]) -> None:
    """Print a line each, never cut or broken: people copy paths from them."""
    for name, value in rows.items():
        out.print(f"{name:<15} {value}", highlight=False, soft_wrap=True)


def when(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")
