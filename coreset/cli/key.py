"""`coreset key`: API keys."""

from typing import Annotated

import typer

from coreset.access.api_keys import new_key
from coreset.cli.options import AsJson
from coreset.cli.output import err, print_json, telling

key = typer.Typer(help="API keys of a service.", no_args_is_help=True)


@key.callback()
def keys() -> None:
    """API keys of a service."""


@key.command()
def new(
    name: Annotated[str, typer.Option(help="of whoever will hold it")],
    scopes: Annotated[str, typer.Option(help="read, submit, or both")] = "read,submit",
    as_json: AsJson = False,
) -> None:
    """Draw a key. It is printed this once; the second line is what the service is given."""
    with telling():
        secret, entry = new_key(name, [scope.strip() for scope in scopes.split(",")])
    if as_json:
        print_json({"key": secret, "line": entry.line})
        return
    typer.echo(secret)
    typer.echo(entry.line)
    err.print(
        "The first line is the key: CORESET_API_KEY of the one who holds it, told nowhere else. The second is for the "
        "service: a line of CORESET_API_KEYS or of the file that CORESET_API_KEYS_FILE names.",
        highlight=False,
    )
