"""Options and arguments that several commands have."""

from typing import Annotated

import typer

Url = Annotated[str, typer.Option(envvar="CORESET_URL", help="of the service")]
Key = Annotated[str | None, typer.Option(envvar="CORESET_API_KEY", help="bearer token", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON, for programs")]
JobFile = Annotated[str, typer.Argument(metavar="JOB.JSON", help="the job spec; - reads stdin")]
Wait = Annotated[bool, typer.Option("--wait", help="wait until the job has ended")]
JobId = Annotated[str, typer.Argument(metavar="ID", help="of the job")]
DEFAULT_URL = "http://127.0.0.1:8000"
