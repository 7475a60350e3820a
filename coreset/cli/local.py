"""`coreset demo` and `coreset version`: commands that need no service."""

import os
import platform
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

import coreset
from coreset.cli.options import AsJson
from coreset.cli.output import error_reporting, print_json
from coreset.cli.up import UpContext
from coreset.entry_points import module_command
from coreset.errors import InvalidInput
from coreset.schemas.plan import SCORING_VERSION

DEMO_MODULES = ("coreset_service", "coreset_workers", "torch", "open_clip", "open_clip_train", "pandas", "scipy")
"""Modules that the demo needs beside those of the command itself."""


def demo(
    context: typer.Context,
    keep: Annotated[bool, typer.Option("--keep", help="leave the service running, with its page")] = False,
    as_json: AsJson = False,
) -> None:
    """Run a whole job on a pool and a training run that the demo makes, in minutes. Needs a checkout."""
    with error_reporting():
        folder = _checkout()
    options = [*(["--keep"] if keep else []), *(["--json"] if as_json else [])]
    up: UpContext = context.obj
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **up.environment}
    # The demo is in no package: its checkout goes on the path in the place of the current folder.
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), environment.get("PYTHONPATH")]))
    raise typer.Exit(subprocess.run(module_command("demo", *options), env=environment, check=False).returncode)


def _checkout() -> Path:
    """Return the folder of the checkout that this package runs from.

    Raises:
        InvalidInput: the package is installed without a checkout, or libraries of the demo are missing.
    """
    folder = Path(coreset.__file__).parents[1]
    if not ((folder / "pyproject.toml").is_file() and (folder / "demo" / "__main__.py").is_file()):
        raise InvalidInput("coreset demo needs a checkout of the repository; clone it and run `make demo` there")
    if missing := [name for name in DEMO_MODULES if find_spec(name) is None]:
        raise InvalidInput(f"coreset demo needs {', '.join(missing)}; run `make demo` in {folder}, which installs them")
    return folder


def version(as_json: AsJson = False) -> None:
    """Print the versions of this package, of its scores and of Python."""
    versions = {
        "version": coreset.__version__,
        "scoring_version": SCORING_VERSION,
        "python": platform.python_version(),
    }
    print_json(versions) if as_json else typer.echo(f"coreset {coreset.__version__} (scoring {SCORING_VERSION})")
