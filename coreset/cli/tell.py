"""How the command line talks: one clear sentence for an error, an exit code, JSON on request."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import typer
from pydantic import BaseModel
from rich.console import Console

from coreset.errors import CoresetError, Unavailable
from coreset.job import Job, JobStatus

OK, JOB_FAILED, INVALID, UNAVAILABLE = 0, 1, 2, 3
out = Console()
err = Console(stderr=True)


@contextmanager
def telling() -> Generator[None]:
    """Turn an error into its sentence on stderr and its exit code: 2 what the caller can mend, 3 what is away."""
    try:
        yield
    except CoresetError as error:
        err.print("[red]error:[/red]", error.detail, highlight=False, soft_wrap=True)
        away = isinstance(error, Unavailable) or error.status >= 500
        raise typer.Exit(UNAVAILABLE if away else INVALID) from None


def print_json(value: BaseModel | Any) -> None:
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    typer.echo(json.dumps(plain, indent=2))


def exit_with(job: Job) -> None:
    """End with 1 if the job has failed or was cancelled."""
    if job.status in (JobStatus.FAILED, JobStatus.CANCELLED):
        raise typer.Exit(JOB_FAILED)
