"""`coreset result` and `coreset report`: the files of a job that has succeeded."""

from pathlib import Path
from typing import Annotated

import typer

from coreset.cli.options import DEFAULT_URL, AsJson, JobId, Key, Out, Url
from coreset.cli.output import error_reporting, print_json
from coreset.cli.output import out as console
from coreset.cli.tables import show_result
from coreset.client import Client
from coreset.errors import InvalidInput
from coreset.schemas.manifest import SUSPECTS, Selection


def result(
    job_id: JobId, out: Out = None, url: Url = DEFAULT_URL, api_key: Key = None, as_json: AsJson = False
) -> None:
    """Show the locations of a job's results."""
    with error_reporting(), Client(url, api_key) as client:
        manifest = client.result(job_id)
        save(client, manifest.selection, out)
        print_json(manifest) if as_json else show_result(manifest)


def report(
    job_id: JobId,
    out: Annotated[Path | None, typer.Option(help="file to write; default: ID.html", show_default=False)] = None,
    open_it: Annotated[bool, typer.Option("--open", help="open the report in the browser")] = False,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Download a job's report: one self-contained HTML file."""
    with error_reporting(), Client(url, api_key) as client:
        content = client.report(job_id)
        path = write(out or Path(f"{job_id}.html"), content)
    if as_json:
        print_json({"file": str(path), "size": len(content)})
    else:
        console.print(str(path), highlight=False, soft_wrap=True)
    if open_it:
        typer.launch(path.as_uri())


def save(client: Client, selection: Selection, path: Path | None) -> None:
    """Download a selection's file, chosen by the path's name or suffix; do nothing without a path.

    Raises:
        InvalidInput: no file of a selection has this suffix, or the path cannot be written.
    """
    if path is None:
        return
    names = {Path(name).suffix: name for name in ("subset.npy", "subset.parquet", "selection.json")}
    if path.suffix not in names:
        raise InvalidInput(f"--out {path} has no known suffix; expected {', '.join(names)}")
    name = path.name if path.name == SUSPECTS else names[path.suffix]
    write(path, client.download(selection.job_id, selection.id, name))


def write(path: Path, content: bytes) -> Path:
    """Write a file completely or not at all, so that make never takes a truncated one for the result.

    Raises:
        InvalidInput: the path is a folder, or cannot be written.
    """
    if path.is_dir():
        raise InvalidInput(f"--out {path} is a folder; give the name of a file")
    half = path.with_name(f".{path.name}.half")
    try:
        half.write_bytes(content)
        half.replace(path)
    except OSError as error:
        half.unlink(missing_ok=True)
        raise InvalidInput(f"{path} cannot be written: {error.strerror}") from error
    return path.resolve()
