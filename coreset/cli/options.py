"""Options and arguments shared by several commands."""

from pathlib import Path
from typing import Annotated

import typer

Url = Annotated[str, typer.Option(envvar="CORESET_URL", help="URL of the service")]
Key = Annotated[str | None, typer.Option(envvar="CORESET_API_KEY", help="API key of the service", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON, for programs")]
JobFile = Annotated[str, typer.Argument(metavar="JOB.JSON", help="job spec; - reads stdin")]
Wait = Annotated[bool, typer.Option("--wait", help="wait until the job has ended")]
JobId = Annotated[str, typer.Argument(metavar="ID", help="id of the job")]
Out = Annotated[
    Path | None,
    typer.Option(help="also download the selection to this file; the suffix decides: .npy, .parquet or .json"),
]
DEFAULT_URL = "http://127.0.0.1:8000"


def examples(*lines: str) -> str:
    """Return a command's epilog: one line per example."""
    return "\n\n".join(["Examples:", *(f"  $ {line}" for line in lines)])
