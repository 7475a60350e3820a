"""Output of the command line: one sentence per error, an exit code, JSON on request."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.text import Text

from coreset.errors import CoresetError, Unavailable
from coreset.schemas.job import JobStatus

OK, JOB_FAILED, INVALID, UNAVAILABLE, JOB_CANCELLED, INTERRUPTED = 0, 1, 2, 3, 4, 130
TOO_MANY_REQUESTS = 429
EXIT_CODES = """Exit codes: 0 done; 1 the job failed, or doctor found something; 2 rejected: the input, the job's \
state or the key; 3 the service cannot be reached or is overloaded; 4 the job was cancelled; 130 interrupted."""
out = Console()
err = Console(stderr=True)


@contextmanager
def error_reporting() -> Generator[None]:
    """Turn an error into one sentence on stderr and an exit code: 2 for the caller's mistakes, 3 for an outage."""
    try:
        yield
    except CoresetError as error:
        print_error(error)
        away = isinstance(error, Unavailable) or error.status >= 500 or error.status == TOO_MANY_REQUESTS
        raise typer.Exit(UNAVAILABLE if away else INVALID) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def print_error(error: CoresetError) -> None:
    """Print an error on stderr, unbroken and as it is: `pip install 'coreset[s3]'` is no markup."""
    err.print(Text.assemble(("error:", "red"), " ", error.detail), soft_wrap=True)


def print_json(value: BaseModel | Any) -> None:
    """Print a model or a JSON value on stdout."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    typer.echo(json.dumps(plain, indent=2))


def exit_for(status: JobStatus) -> None:
    """Exit with the code of a failed or cancelled job; return for any other status."""
    code = {JobStatus.FAILED: JOB_FAILED, JobStatus.CANCELLED: JOB_CANCELLED}.get(status, OK)
    if code:
        raise typer.Exit(code)
