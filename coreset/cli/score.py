"""`coreset score`: a whole job on this machine, without a service."""

import os
import sys
from importlib.util import find_spec
from typing import Annotated

import typer

from coreset.cli.options import AsJson, JobFile
from coreset.cli.output import telling
from coreset.cli.up import UpContext
from coreset.entry_points import LOCAL_MODULE
from coreset.errors import InvalidInput


def score(
    context: typer.Context,
    job_file: JobFile,
    out: Annotated[str, typer.Option(metavar="DIR", help="folder of the results, or a URI such as s3://bucket/x")],
    as_json: AsJson = False,
) -> None:
    """Run a job here and now, without a service or Redis: one device, the same files and scores.

    Started again after an interruption, it goes on where it was.
    """
    with telling():
        if find_spec("torch") is None:
            raise InvalidInput("coreset score needs the workers' libraries: pip install coreset-workers")
    command = [sys.executable, "-m", LOCAL_MODULE, job_file, "--out", out, *(["--json"] if as_json else [])]
    chosen: UpContext = context.obj
    # PASSIVE before torch is imported: threads that spin while they wait take the cores that others need.
    # This process becomes that one, so that whoever ends the command ends the job.
    os.execve(command[0], command, {"OMP_WAIT_POLICY": "PASSIVE", **chosen.environment})
