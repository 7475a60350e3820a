"""`coreset evaluate`: quality of a job's selections, measured by training small models on them."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from coreset.cli.options import DEFAULT_URL, AsJson, Key, Url
from coreset.cli.output import JOB_FAILED, err, error_reporting, exit_for, out, print_json
from coreset.cli.progress_bars import wait_with_progress
from coreset.cli.spec_files import absolute, read_spec
from coreset.cli.tables import show_rows, show_warnings
from coreset.client import Client, validate_spec
from coreset.errors import InvalidInput
from coreset.redaction import MASK
from coreset.schemas.evaluation import EvaluatedCut, Evaluation
from coreset.schemas.intervals import Interval
from coreset.spec.evaluation import BASELINES
from coreset.spec.job import JobSpec
from coreset.spec.proxies import PASSES

MEASURES = {"accuracy": "zero-shot accuracy", "recall": "mean recall"}


def evaluate(
    job: Annotated[str, typer.Argument(metavar="JOB", help="id of a job, or a job spec; - reads stdin")],
    test: Annotated[
        list[str] | None,
        typer.Option(metavar="SHARDS", help="held-out shards; may be repeated; default: those of the spec"),
    ] = None,
    fractions: Annotated[
        list[float] | None,
        typer.Option("--fraction", help="share of the pool to keep; may be repeated; default: the job's own"),
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, max=20, help="proxies per selection and share")] = None,
    samples_seen: Annotated[int | None, typer.Option(min=1, help="training samples that each proxy sees")] = None,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Train small models on a job's selection and on baselines, and test them on held-out samples.

    The job is posted again with `evaluate` in its spec. Existing scores and trained proxies are used again. Exit code 1
    if no proxy could be trained.
    """
    with error_reporting(), Client(url, api_key) as client:
        asked = {"test": {"shards": test} if test else None, "fractions": fractions or None}
        asked |= {"seeds": seeds, "samples_seen": samples_seen}
        spec = _with(_spec_of(client, job), asked)
        _announce(spec)
        posted = client.submit(spec)
        ended = wait_with_progress(client, posted.id)
        if ended.reason is not None:
            show_rows({"reason": f"{ended.reason.code}: {ended.reason.message}"})
        exit_for(ended.status)
        evaluation = client.evaluation(posted.id)
        print_json(evaluation) if as_json else show_evaluation(evaluation)
        if evaluation.measured is None:
            raise typer.Exit(JOB_FAILED)


def _announce(spec: JobSpec) -> None:
    """Print on stderr how much is trained at most, before it starts."""
    if spec.evaluate is not None:
        trials = spec.evaluate.number_of_trials(spec.select.rule, spec.scores)
        passes = f"{spec.evaluate.samples_seen:,} samples" if spec.evaluate.samples_seen else f"{PASSES} x the pool"
        err.print(
            f"trains at most {trials:,} small models on {passes} each; equal and existing ones are used again",
            soft_wrap=True,
        )


def _spec_of(client: Client, job: str) -> dict[str, Any]:
    """Return the spec of a file or of a job as JSON values; a job's without its webhook and its written shards."""
    if job == "-" or Path(job).is_file() or job.endswith(".json"):
        return dict(read_spec(job))
    spec = client.get(job).spec.model_dump(mode="json")
    if MASK in json.dumps(spec):
        raise InvalidInput(f"the spec of job {job} has secrets, which are not returned; give the job's file instead")
    return spec | {"webhook": None, "select": spec["select"] | {"write_shards": False}}


def _with(spec: dict[str, Any], asked: dict[str, Any]) -> JobSpec:
    """Return the spec with the options in its `evaluate`; relative shards are below the current folder."""
    given = {name: value for name, value in asked.items() if value is not None}
    known: dict[str, Any] = spec.get("evaluate") or {}
    if "test" not in known | given:
        raise InvalidInput("the spec has no `evaluate.test`; give --test SHARDS with samples that are not in the pool")
    return validate_spec(spec | {"evaluate": known | absolute({"evaluate": given}, Path.cwd())["evaluate"]})


def show_evaluation(evaluation: Evaluation) -> None:
    """Print a table of all sizes, the best selection of each first."""
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
        differences = (_mean_and_half_width(cut.against.get(name), "+") for name in against)
        table.add_row(
            escape(cut.selection), f"{cut.fraction:.1%}", f"{cut.k:,}", _mean_and_half_width(cut.points), *differences
        )
    return table


def _mean_and_half_width(interval: Interval | None, sign: str = "") -> str:
    if interval is None:
        return "-"
    half = f" ± {interval.high - interval.mean:.2f}" if interval.high is not None else ""
    return f"{interval.mean:{sign}.2f}{half}"
