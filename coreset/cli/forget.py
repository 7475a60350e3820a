"""`coreset forget`: trained weights with the influence of some samples removed."""

import subprocess
from pathlib import Path
from typing import Annotated

import typer

from coreset.cli.options import AsJson
from coreset.cli.output import error_reporting
from coreset.cli.spec_files import read_spec
from coreset.cli.up import computing_environment
from coreset.client import validate_spec
from coreset.entry_points import UNLEARNING_MODULE, module_command
from coreset.uids import read_uids


def forget(
    context: typer.Context,
    job_file: Annotated[str, typer.Argument(metavar="JOB.JSON", help="the job spec; - reads stdin")],
    uids: Annotated[Path, typer.Option(help="samples to forget: DataComp's .npy, or text with one uid per line")],
    out: Annotated[Path, typer.Option(help="checkpoint to write, in open_clip's format")],
    as_json: AsJson = False,
) -> None:
    """Write the last checkpoint as if the training had not seen some samples, to first order. Needs no service."""
    with error_reporting():
        spec = validate_spec(read_spec(job_file))
        read_uids(uids)  # so that a mistake in it is reported before the process below has started, which takes seconds
    command = module_command(UNLEARNING_MODULE, "--uids", str(uids), "--out", str(out))
    command += ["--json"] if as_json else []
    environment = computing_environment(context)
    ended = subprocess.run(command, input=spec.model_dump_json().encode(), env=environment, check=False)
    raise typer.Exit(ended.returncode)
