"""`coreset evaluate`: what a job's selections are worth, by training small models on them."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from coreset.cli.options import DEFAULT_URL, AsJson, Key, Url
from coreset.cli.output import JOB_FAILED, exit_with, out, print_json, telling
from coreset.cli.progress_bars import wait_live
from coreset.cli.spec_files import absolute, read_spec
from coreset.cli.tables import show_rows, show_warnings
from coreset.client import Client, validate_spec
from coreset.errors import InvalidInput
from coreset.redaction import MASK
from coreset.schemas.evaluation import EvaluatedCut, Evaluation
from coreset.schemas.intervals import Interval
from coreset.spec.evaluation import BASELINES
from coreset.spec.job import JobSpec

MEASURES = {"accuracy": "zero-shot accuracy", "recall": "mean recall"}


def evaluate(
    job: Annotated[str, typer.Argument(metavar="JOB", help="id of a job, or a job spec; - reads stdin")],
    test: Annotated[
        list[str] | None,
        typer.Option(metavar="SHARDS", help="held-out shards; may be repeated; the spec's own without it"),
    ] = None,
    fractions: Annotated[
        list[float] | None,
        typer.Option("--fraction", help="share of the pool to keep; may be repeated; the job's own without it"),
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, max=20, help="proxies for each selection and share")] = None,
    samples_seen: Annotated[int | None, typer.Option(min=1, help="by each proxy")] = None,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Train small models on a job's selection and on its rivals, and measure them on held-out samples.

    The job is posted again with `evaluate` in its spec: scores that are there are not made again, and neither are
    proxies. 1 if none could be trained.
    """
    with telling(), Client(url, api_key) as client:
        asked = {"test": {"shards": test} if test else None, "fractions": fractions or None}
        asked |= {"seeds": seeds, "samples_seen": samples_seen}
        posted = client.submit(_with(_spec_of(client, job), asked))
        ended = client.wait(posted.id) if as_json else wait_live(client, posted.id)
        if ended.reason is not None:
            show_rows({"reason": f"{ended.reason.code}: {ended.reason.message}"})
        exit_with(ended.status)
        evaluation = client.evaluation(posted.id)
        print_json(evaluation) if as_json else show_evaluation(evaluation)
        if evaluation.measured is None:
            raise typer.Exit(JOB_FAILED)


def _spec_of(client: Client, job: str) -> dict[str, Any]:
    """Return the spec of a file or of a job, as JSON values; a job's without what would be done a second time."""
    if job == "-" or Path(job).is_file() or job.endswith(".json"):
        return dict(read_spec(job))
    spec = client.get(job).spec.model_dump(mode="json")
    if MASK in json.dumps(spec):
        raise InvalidInput(f"the spec of job {job} holds secrets that are not told; give its file instead")
    return spec | {"webhook": None, "select": spec["select"] | {"write_shards": False}}


def _with(spec: dict[str, Any], asked: dict[str, Any]) -> JobSpec:
    """Return the spec with what is asked; relative shards are below the current folder."""
    given = {name: value for name, value in asked.items() if value is not None}
    known: dict[str, Any] = spec.get("evaluate") or {}
    if "test" not in known | given:
        raise InvalidInput("give --test with held-out shards: samples that are not in the pool")
    return validate_spec(spec | {"evaluate": known | absolute({"evaluate": given}, Path.cwd())["evaluate"]})


def show_evaluation(evaluation: Evaluation) -> None:
    """Print a table for each size, the best selection first."""
    what = MEASURES[evaluation.measured] if evaluation.measured else "nothing"
    rows = {
        "job": evaluation.job_id,
        "measured": f"{what} of {evaluation.test_samples:,} samples, in per cent; {evaluation.seeds} seeds",
        "intervals": evaluation.confidence,
        "proxies": f"{evaluation.samples_seen:,} samples seen each, {evaluation.seconds:,.0f} s in all",
    }
    show_rows(rows)
    show_warnings(evaluation.warnings)
    out.print(_table(evaluation.cuts), highlight=False)


def _table(cuts: list[EvaluatedCut]) -> Table:
    table = Table(box=None)
    table.add_column("selection", no_wrap=True)
    against = [name for name in BASELINES if any(name in cut.against for cut in cuts)]
    for heading in ("kept", "k", "points", *(f"above {name}" for name in against)):
        table.add_column(heading, justify="right", no_wrap=True)
    for cut in sorted(cuts, key=lambda cut: (cut.fraction, -(cut.points.mean if cut.points else 0))):
        differences = (_words(cut.against.get(name), "+") for name in against)
        table.add_row(cut.selection, f"{cut.fraction:.1%}", f"{cut.k:,}", _words(cut.points), *differences)
    return table


def _words(found: Interval | None, sign: str = "") -> str:
    """Return a mean and half the width of its interval."""
    if found is None:
        return "-"
    half = f" ± {found.high - found.mean:.2f}" if found.high is not None else ""
    return f"{found.mean:{sign}.2f}{half}"
