"""`coreset convert`: WebDataset shards of a pool in any format."""

from importlib.util import find_spec
from typing import Annotated

import typer

from coreset.cli.options import AsJson
from coreset.cli.output import error_reporting
from coreset.cli.up import become
from coreset.entry_points import CONVERSION_MODULE
from coreset.errors import InvalidInput


def convert(
    context: typer.Context,
    shards: Annotated[list[str], typer.Argument(metavar="SHARDS...", help="files, patterns, folders: docs/pools.md")],
    out: Annotated[str, typer.Option(metavar="DIR", help="folder of the shards, or a URI such as s3://bucket/x")],
    caption_field: Annotated[str | None, typer.Option(help="column of the captions", show_default=False)] = None,
    image_field: Annotated[
        str | None, typer.Option(help="column of the images or of their paths", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write Parquet, Arrow, csv or jsonl files and the images that they name as WebDataset shards. Needs no service.

    Run the command again after an interruption: it continues where it stopped.
    """
    with error_reporting():
        if find_spec("webdataset") is None:
            raise InvalidInput("coreset convert needs the workers' libraries: pip install coreset-workers")
    options = {"--caption-field": caption_field, "--image-field": image_field}
    given = [word for name, value in options.items() if value is not None for word in (name, value)]
    become(context, CONVERSION_MODULE, "--out", out, *given, *(["--json"] if as_json else []), "--", *shards)
