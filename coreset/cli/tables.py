"""Jobs, results and selections as lines and tables for people."""

from collections.abc import Mapping
from datetime import datetime

from rich.text import Text

from coreset.cli.output import out
from coreset.schemas.events import Ended, JobEvent, Progressed, StatusChanged, Warned
from coreset.schemas.job import Job, JobStatus
from coreset.schemas.manifest import SUSPECTS, Manifest, Selection
from coreset.spec.job_words import describe_briefly, describe_job
from coreset.spec.rule_words import describe_rule

COLOURS = {JobStatus.SUCCEEDED: "green", JobStatus.FAILED: "red", JobStatus.CANCELLED: "yellow"}


def job_line(job: Job) -> str:
    """Return the stage and, while there are shards, their progress."""
    stage = job.progress.stage
    return f"{stage} · shards {shard_facts(job)}" if job.progress.shards.total else stage


def shard_facts(job: Job) -> str:
    """Return the counts of the shards, the rate and the time left, in one line."""
    progress = job.progress
    counts = progress.shards
    facts = [f"{counts.done}/{counts.total}"]
    facts += [f"{counts.running} running"] if counts.running else []
    facts += [f"{counts.failed} failed"] if counts.failed else []
    facts += [f"{progress.samples_per_second:,.0f} samples/s"] if progress.samples_per_second else []
    facts += [f"{progress.eta_seconds:,.0f} s left"] if progress.eta_seconds is not None else []
    return " · ".join(facts)


def event_line(event: JobEvent) -> Text:
    """Return an event as one line with its time."""
    if isinstance(event, StatusChanged | Ended):
        reason = f" {event.reason.code}: {event.reason.message}" if event.reason else ""
        text = Text.assemble(_coloured(event.status), reason)
    elif isinstance(event, Progressed):
        counts = event.progress.shards
        shards = f", shards {counts.done}/{counts.total}" if counts.total else ""
        text = Text(f"{event.progress.fraction:.0%} {event.progress.stage}{shards}")
    elif isinstance(event, Warned):
        text = Text.assemble(("warning", "yellow"), " ", event.text)
    else:
        text = Text.assemble(("shard failed", "red"), f" {event.uri}: {event.message}")
    return Text.assemble(f"{local_time(event.at)}  ", text)


def show_job(job: Job) -> None:
    """Print a job's status, reason or progress, counts, failed shards and warnings."""
    rows: dict[str, str | Text] = {
        "job": job.id,
        **describe_job(job.spec),
        "status": Text.assemble(_coloured(job.status), f"  {job.progress.fraction:.0%}"),
    }
    if job.reason:
        rows["reason"] = f"{job.reason.code}: {job.reason.message}"
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
        show_rows({"failed": f"{failure.uri}: {failure.message}"})
    show_warnings(job.warnings)


def samples_text(scored: int, read: int, duplicates: int, bad: dict[str, int]) -> str:
    """Return the counts of samples in one line: `46 scored of 48, 4 duplicates (bad: no_image 2)`."""
    text = f"{scored:,} scored of {read:,}" + (f", {duplicates:,} duplicates" if duplicates else "")
    reasons = ", ".join(f"{kind} {count:,}" for kind, count in bad.items())
    return text + (f" (bad: {reasons})" if reasons else "")


def show_jobs(jobs: list[Job]) -> None:
    """Print two lines per job: its state, and what distinguishes it."""
    for job in jobs:
        state = f"  {job.progress.fraction:.0%}  {local_time(job.created_at)}  {job_line(job)}"
        out.print(Text.assemble(job.id, "  ", _coloured(job.status), state), soft_wrap=True)
        out.print(Text(f"    {describe_briefly(job.spec)}"), soft_wrap=True)


def show_result(manifest: Manifest) -> None:
    """Print a result's counts, files and warnings, and its selection."""
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
    """Print a selection's size, rule, files and warnings."""
    rows = {
        "selection": selection.id,
        "size": f"{selection.k:,} of {selection.rankable:,} rankable samples"
        + (f" ({selection.duplicates:,} duplicates left out)" if selection.duplicates else ""),
        "rule": describe_rule(selection.spec),
    }
    show_rows(rows | {name: file.uri for name, file in selection.files.items()})
    show_warnings(selection.warnings)


def show_warnings(warnings: list[str]) -> None:
    """Print one line per warning."""
    for warning in warnings:
        show_rows({"warning": Text(warning, "yellow")})


def show_rows(rows: Mapping[str, str | Text]) -> None:
    """Print one line per row, never cut or broken, since people copy paths from them. Strings are not markup."""
    for name, value in rows.items():
        out.print(Text.assemble(f"{name:<15} ", value), soft_wrap=True)


def local_time(moment: datetime) -> str:
    """Return a time as the user's clock shows it."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _coloured(status: JobStatus) -> Text:
    return Text(status.value, COLOURS.get(status, "cyan"))
