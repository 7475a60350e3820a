"""How the command line talks: one clear sentence for an error, an exit code, JSON on request."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape

from coreset.errors import CoresetError, Unavailable
from coreset.schemas.job import JobStatus

OK, JOB_FAILED, INVALID, UNAVAILABLE, JOB_CANCELLED, INTERRUPTED = 0, 1, 2, 3, 4, 130
TOO_MANY_REQUESTS = 429
EXIT_CODES = """Exit codes: 0 done; 1 the job failed, or doctor found something; 2 refused: the input, the job's state \
or the key; 3 the service cannot be reached or has no room now; 4 the job was cancelled; 130 interrupted."""
out = Console()
err = Console(stderr=True)


@contextmanager
def telling() -> Generator[None]:
    """Turn an error into its sentence on stderr and its exit code: 2 what the caller can mend, 3 what is away."""
    try:
        yield
    except CoresetError as error:
        err.print("[red]error:[/red]", escape(error.detail), highlight=False, soft_wrap=True)
        away = isinstance(error, Unavailable) or error.status >= 500 or error.status == TOO_MANY_REQUESTS
        raise typer.Exit(UNAVAILABLE if away else INVALID) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def print_json(value: BaseModel | Any) -> None:
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    typer.echo(json.dumps(plain, indent=2))


def exit_with(status: JobStatus) -> None:
    """End with the code of a job that has failed or was cancelled."""
    code = {JobStatus.FAILED: JOB_FAILED, JobStatus.CANCELLED: JOB_CANCELLED}.get(status, OK)
    if code:
        raise typer.Exit(code)
