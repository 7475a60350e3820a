"""`coreset forget`: the weights of a training with the influence of some samples removed."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from coreset.cli.options import AsJson
from coreset.cli.output import telling
from coreset.cli.spec_files import read_spec
from coreset.cli.up import UpContext
from coreset.client import validate_spec
from coreset.entry_points import UNLEARNING_MODULE
from coreset.uids import read_uids


def forget(
    context: typer.Context,
    job_file: Annotated[str, typer.Argument(metavar="JOB.JSON", help="the job spec; - reads stdin")],
    uids: Annotated[Path, typer.Option(help="the samples: DataComp's .npy, or text with one uid a line")],
    out: Annotated[Path, typer.Option(help="the checkpoint to write, as open_clip loads it")],
    as_json: AsJson = False,
) -> None:
    """Write the last checkpoint as if some samples had not been trained on, to first order. Needs no service."""
    with telling():
        spec = validate_spec(read_spec(job_file))
        read_uids(uids)  # a mistake in it shows at once: the process below takes seconds to start
    command = [sys.executable, "-m", UNLEARNING_MODULE, "--uids", str(uids), "--out", str(out)]
    command += ["--json"] if as_json else []
    chosen: UpContext = context.obj
    # PASSIVE before torch is imported: threads that spin while they wait take the cores that others need.
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **chosen.environment}
    ended = subprocess.run(command, input=spec.model_dump_json().encode(), env=environment, check=False)
    raise typer.Exit(ended.returncode)
