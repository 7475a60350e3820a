"""`coreset submit`, `check`, `status`, `events`, `list`, `cancel`, `delete`: the jobs of a service."""

import json
from typing import Annotated

import typer

from coreset.cli.options import DEFAULT_URL, AsJson, JobFile, JobId, Key, Url, Wait
from coreset.cli.output import error_reporting, exit_for, out, print_json
from coreset.cli.preflight import show_preflight
from coreset.cli.progress_bars import wait_with_progress
from coreset.cli.spec_files import read_spec
from coreset.cli.tables import event_line, show_job, show_jobs
from coreset.client import Client, validate_spec
from coreset.schemas.events import Ended
from coreset.schemas.job import Job, JobStatus


def submit(
    job_file: JobFile,
    wait: Wait = False,
    idempotency_key: Annotated[
        str | None, typer.Option(help="the same key again within 24 hours gives the same job")
    ] = None,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Start a job. Relative paths in the file are resolved against the file's folder."""
    with error_reporting(), Client(url, api_key) as client:
        job = client.submit(validate_spec(read_spec(job_file)), idempotency_key)
        _report(client, job, wait, as_json)


def check(job_file: JobFile, url: Url = DEFAULT_URL, api_key: Key = None, as_json: AsJson = False) -> None:
    """Plan a job without starting it: its inputs, its memory and time, warnings. Exit code 2 if it would fail."""
    with error_reporting(), Client(url, api_key) as client:
        found = client.check(validate_spec(read_spec(job_file)))
        print_json(found) if as_json else show_preflight(found)


def status(
    job_id: JobId, wait: Wait = False, url: Url = DEFAULT_URL, api_key: Key = None, as_json: AsJson = False
) -> None:
    """Show a job; with --wait follow it until it has ended. Ctrl-C ends the command, not the job."""
    with error_reporting(), Client(url, api_key) as client:
        _report(client, client.get(job_id), wait, as_json)


def events(
    job_id: JobId,
    after: Annotated[str, typer.Option(metavar="EVENT", help="id of the last known event; continue after it")] = "",
    url: Url = DEFAULT_URL,
    api_key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Print a job's events as they happen, one per line, until it has ended. With --json each line is an object."""
    with error_reporting(), Client(url, api_key) as client:
        for event_id, event in client.events(job_id, after):
            if as_json:
                typer.echo(json.dumps({"id": event_id, **event.model_dump(mode="json")}))
            else:
                out.print(event_line(event), soft_wrap=True)
            if isinstance(event, Ended):
                exit_for(event.status)


def list_jobs(
    only: Annotated[JobStatus | None, typer.Option("--status", help="only jobs in this state")] = None,
    label: Annotated[str | None, typer.Option(metavar="KEY:VALUE", help="only jobs with this label")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="number of jobs")] = 20,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    with error_reporting(), Client(url, api_key) as client:
        page = client.page(limit, status=only, label=label)
        print_json(page) if as_json else show_jobs(page.jobs)


def cancel(job_id: JobId, url: Url = DEFAULT_URL, api_key: Key = None, as_json: AsJson = False) -> None:
    """Stop a job. The parts that it has written stay."""
    with error_reporting(), Client(url, api_key) as client:
        job = client.cancel(job_id)
        print_json(job) if as_json else show_job(job)


def delete(job_id: JobId, url: Url = DEFAULT_URL, api_key: Key = None, as_json: AsJson = False) -> None:
    """Delete a job that has ended: its result, its selections, and its scores unless another job uses them."""
    with error_reporting(), Client(url, api_key) as client:
        client.delete(job_id)
        print_json({"id": job_id, "deleted": True}) if as_json else out.print(f"{job_id} is deleted", highlight=False)


def _report(client: Client, job: Job, wait: bool, as_json: bool) -> None:
    if wait:
        job = wait_with_progress(client, job.id)
    print_json(job) if as_json else show_job(job)
    exit_for(job.status)
