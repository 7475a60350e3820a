"""`coreset key`: API keys."""

from typing import Annotated

import typer

from coreset.access.api_keys import new_key
from coreset.cli.options import AsJson
from coreset.cli.output import err, error_reporting, print_json

key = typer.Typer(help="API keys of a service.", no_args_is_help=True)


@key.callback()
def keys() -> None:
    """API keys of a service."""


@key.command()
def new(
    name: Annotated[str, typer.Option(help="name of the user or program that will use it")],
    scopes: Annotated[str, typer.Option(help="scopes: read, submit, or both")] = "read,submit",
    as_json: AsJson = False,
) -> None:
    """Make a key. It is printed once: the key for its user, and a line for the service, which stores its hash only."""
    with error_reporting():
        secret, entry = new_key(name, [scope.strip() for scope in scopes.split(",")])
    if as_json:
        print_json({"key": secret, "line": entry.line})
        return
    typer.echo(secret)
    typer.echo(entry.line)
    err.print(
        "The first line is the key, for its user's CORESET_API_KEY; it is stored nowhere. The second line is for the "
        "service: add it to CORESET_API_KEYS, or to the file that CORESET_API_KEYS_FILE names.",
        highlight=False,
    )
