"""`coreset doctor`: diagnosis of a job."""

from typing import Annotated

import typer
from rich.markup import escape

from coreset.cli.options import DEFAULT_URL, AsJson, JobId, Key, Url
from coreset.cli.output import JOB_FAILED, err, error_reporting, out, print_json
from coreset.client import Client
from coreset.schemas.diagnosis import Diagnosis, Finding

Mend = Annotated[bool, typer.Option("--mend", help="repair what can be repaired")]


def doctor(
    job_id: JobId, mend: Mend = False, url: Url = DEFAULT_URL, api_key: Key = None, as_json: AsJson = False
) -> None:
    """Compare a job's record, the queue and the storage, and list what is wrong.

    Exit code 1 if a fault remains.
    """
    with error_reporting(), Client(url, api_key) as client:
        found = _complete_diagnosis(client, job_id)
        found = client.mend(job_id) if mend else found
    print_json(found) if as_json else _show(found, mend)
    if any(not (mend and finding.mendable) for finding in found.findings):
        raise typer.Exit(JOB_FAILED)


def _complete_diagnosis(client: Client, job_id: str) -> Diagnosis:
    """Ask until all files are checked, or an answer gets no further: replicas remember each their own."""
    found, checked = client.diagnosis(job_id), -1
    while checked < found.files_checked < found.files:
        err.print(f"checked {found.files_checked:,} of {found.files:,} files", highlight=False)
        found, checked = client.diagnosis(job_id), found.files_checked
    return found


def _show(found: Diagnosis, mended: bool) -> None:
    for finding in found.findings:
        _show_finding(finding, mended)
    tasks = ", ".join(f"{count:,} {state}" for state, count in found.tasks.items())
    out.print(f"{found.id}: {found.status.value}; tasks: {tasks or 'none'}", highlight=False)
    out.print(f"{found.parts:,} of {found.shards:,} parts are complete", highlight=False)
    if found.files_checked < found.files:
        out.print(f"only {found.files_checked:,} of {found.files:,} files were checked; ask again", highlight=False)
    if not found.findings:
        out.print("no fault found", highlight=False)


def _show_finding(finding: Finding, mended: bool) -> None:
    mark = "[green]repaired[/green]" if mended and finding.mendable else f"[red]{finding.code}[/red]"
    way = finding.cure if mended or not finding.mendable else f"{finding.cure}, with --mend"
    out.print(f"{mark}: {escape(finding.what)} ({escape(way)})", highlight=False, soft_wrap=True)
