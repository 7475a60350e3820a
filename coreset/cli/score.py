"""`coreset score`: a whole job on this machine, without a service."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from coreset.cli.options import AsJson, JobFile
from coreset.cli.output import error_reporting
from coreset.cli.up import become
from coreset.entry_points import LOCAL_MODULE
from coreset.errors import InvalidInput


def score(
    context: typer.Context,
    job_file: JobFile,
    out: Annotated[str, typer.Option(metavar="DIR", help="folder of the results, or a URI such as s3://bucket/x")],
    as_json: AsJson = False,
) -> None:
    """Run a job in this process, without a service or Redis: one device, the same files and scores.

    Run the command again after an interruption: it continues where it stopped.
    """
    with error_reporting():
        if find_spec("torch") is None:
            raise InvalidInput("coreset score needs the workers' libraries: pip install coreset-workers")
        if Path(out).is_file():
            raise InvalidInput(f"--out {out} is a file; give a folder, which is made if it does not exist, or a URI")
    become(context, LOCAL_MODULE, job_file, "--out", out, *(["--json"] if as_json else []))
