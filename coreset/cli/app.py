"""The commands. Exit codes: 0 done, 1 the job failed or was cancelled, 2 the input is not valid, 3 no service."""

from typing import Annotated, Any

import typer

from coreset.cli.doctor import doctor
from coreset.cli.forget import forget
from coreset.cli.options import DEFAULT_URL, AsJson, JobFile, JobId, Key, Url, Wait
from coreset.cli.paths import read_spec
from coreset.cli.preflight import show_preflight
from coreset.cli.show import show_job, show_jobs, show_result, show_selection, wait_live
from coreset.cli.tell import exit_with, print_json, telling
from coreset.cli.up import up
from coreset.client import Client, validate_spec
from coreset.errors import InvalidInput
from coreset.job import Job, JobStatus

app = typer.Typer(
    name="coreset",
    help="Score image-text pools by training influence, and select coresets.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command()(up)
app.command()(forget)
app.command()(doctor)


@app.command()
def submit(
    job_file: JobFile,
    wait: Wait = False,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Start a job. Relative paths in the file are relative to the file's folder."""
    with telling(), Client(url, api_key) as client:
        job = client.submit(validate_spec(read_spec(job_file)))
        _report(client, job, wait, as_json)


@app.command()
def check(
    job_file: JobFile,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Plan a job without starting it: what is found, what is doubtful, what it would take. 2 if it would fail."""
    with telling(), Client(url, api_key) as client:
        found = client.check(validate_spec(read_spec(job_file)))
        print_json(found) if as_json else show_preflight(found)


@app.command()
def status(
    job_id: JobId, wait: Wait = False, url: Url = DEFAULT_URL, api_key: Key = None, as_json: AsJson = False
) -> None:
    """Show a job, or follow it with --wait."""
    with telling(), Client(url, api_key) as client:
        _report(client, client.get(job_id), wait, as_json)


@app.command("list")
def list_jobs(
    only: Annotated[JobStatus | None, typer.Option("--status", help="only jobs in this state")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100)] = 20,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    with telling(), Client(url, api_key) as client:
        page = client.page(limit, status=only)
        print_json(page) if as_json else show_jobs(page.jobs)


@app.command()
def result(job_id: JobId, url: Url = DEFAULT_URL, api_key: Key = None, as_json: AsJson = False) -> None:
    """Show where a job's results are."""
    with telling(), Client(url, api_key) as client:
        manifest = client.result(job_id)
        print_json(manifest) if as_json else show_result(manifest)


@app.command()
def select(
    job_id: JobId,
    k: Annotated[int | None, typer.Option("--k", min=1, help="number of samples")] = None,
    fraction: Annotated[float | None, typer.Option(help="share of the rankable samples")] = None,
    by: Annotated[str, typer.Option(help="a score, or weights: diffin=1,clip_score=1")] = "diffin=1,clip_score=1",
    combine: Annotated[str, typer.Option(help="mix, intersection or union")] = "mix",
    url: Url = DEFAULT_URL,
    api_key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Cut another coreset from a job's scores: seconds, and no GPU."""
    with telling(), Client(url, api_key) as client:
        wish: dict[str, Any] = {"k": k, "fraction": fraction, "by": _weights(by), "combine": combine}
        selection = client.select(job_id, wish)
        print_json(selection) if as_json else show_selection(selection)


@app.command()
def cancel(job_id: JobId, url: Url = DEFAULT_URL, api_key: Key = None, as_json: AsJson = False) -> None:
    """Stop a job; the parts it has written stay."""
    with telling(), Client(url, api_key) as client:
        job = client.cancel(job_id)
        print_json(job) if as_json else show_job(job)


def _report(client: Client, job: Job, wait: bool, as_json: bool) -> None:
    if wait:
        job = client.wait(job.id) if as_json else wait_live(client, job.id)
    print_json(job) if as_json else show_job(job)
    exit_with(job)


def _weights(text: str) -> dict[str, float]:
    """Read `diffin=1,clip_score=0.5`; a score without a weight counts 1. Raises InvalidInput."""
    weights: dict[str, float] = {}
    for item in filter(None, (piece.strip() for piece in text.split(","))):
        name, _, weight = item.partition("=")
        try:
            weights[name.strip()] = float(weight) if weight else 1.0
        except ValueError as error:
            raise InvalidInput(f"--by: {weight!r} is not a number; write for example diffin=1,clip_score=1") from error
    return weights
