"""Commands that need no service: the demo, and the version."""

import platform
import subprocess
import sys
from typing import Annotated

import typer

from coreset import __version__
from coreset.cli.options import AsJson
from coreset.cli.output import print_json
from coreset.cli.up import UpContext
from coreset.schemas.plan import SCORING_VERSION


def demo(
    context: typer.Context,
    keep: Annotated[bool, typer.Option("--keep", help="leave the service running, with its page")] = False,
    as_json: AsJson = False,
) -> None:
    """Run the whole job on a pool and a training that it makes itself: minutes. Needs the `demo` extra."""
    chosen: UpContext = context.obj
    command = [sys.executable, "-m", "demo", *(["--keep"] if keep else []), *(["--json"] if as_json else [])]
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **chosen.environment}
    raise typer.Exit(subprocess.run(command, env=environment, check=False).returncode)


def version(as_json: AsJson = False) -> None:
    """Print the versions of this package, of its scores and of Python."""
    found = {"version": __version__, "scoring_version": SCORING_VERSION, "python": platform.python_version()}
    print_json(found) if as_json else typer.echo(f"coreset {__version__} (scoring {SCORING_VERSION})")
