"""`coreset doctor`: what is wrong with a job."""

from typing import Annotated

import typer
from rich.markup import escape

from coreset.cli.options import DEFAULT_URL, AsJson, JobId, Key, Url
from coreset.cli.output import JOB_FAILED, out, print_json, telling
from coreset.client import Client
from coreset.schemas.diagnosis import Diagnosis

Mend = Annotated[bool, typer.Option("--mend", help="mend what can be mended")]


def doctor(
    job_id: JobId, mend: Mend = False, url: Url = DEFAULT_URL, api_key: Key = None, as_json: AsJson = False
) -> None:
    """Compare a job's record, the queue and the storage; say what is wrong. 1 if something is and stays."""
    with telling(), Client(url, api_key) as client:
        found = client.mend(job_id) if mend else client.diagnosis(job_id)
    print_json(found) if as_json else _show(found, mend)
    if any(not (mend and finding.mendable) for finding in found.findings):
        raise typer.Exit(JOB_FAILED)


def _show(found: Diagnosis, mended: bool) -> None:
    tasks = ", ".join(f"{count:,} {state}" for state, count in found.tasks.items())
    out.print(f"{found.id}: {found.status.value}; tasks: {tasks or 'none'}", highlight=False)
    out.print(f"{found.parts:,} of {found.shards:,} parts are there", highlight=False)
    for finding in found.findings:
        mark = "[green]mended[/green]" if mended and finding.mendable else f"[red]{finding.code}[/red]"
        way = finding.cure if mended or not finding.mendable else f"{finding.cure}, with --mend"
        out.print(f"{mark}: {escape(finding.what)} ({escape(way)})", highlight=False, soft_wrap=True)
    if not found.findings:
        out.print("nothing is wrong", highlight=False)
