"""`python -m coreset_workers.unlearning --uids FILE --out CHECKPOINT < JOB.json`: what `coreset forget` starts."""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from coreset.access.locations import Locations
from coreset.cli.output import print_error, print_json
from coreset.cli.progress_bars import stage_progress
from coreset.errors import CoresetError
from coreset.settings import WorkerSettings
from coreset.spec.job import JobSpec
from coreset.uids import read_uids
from coreset_workers.data import opening as files
from coreset_workers.unlearning.removal import Forgotten, forget


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m coreset_workers.unlearning", description="Reads the job spec from stdin."
    )
    parser.add_argument("--uids", type=Path, required=True, help=".npy of DataComp's u8,u8, or text, one uid a line")
    parser.add_argument("--out", type=Path, required=True, help="the checkpoint to write")
    parser.add_argument("--json", action="store_true", help="print what was done as JSON")
    options = parser.parse_args()
    console = Console(stderr=True)
    try:
        spec, uids = JobSpec.model_validate_json(sys.stdin.read()), read_uids(options.uids)
        with stage_progress() as report_stage:
            settings = WorkerSettings()
            files.allow(Locations.parse(settings.allowed_uris))
            done = forget(spec, uids, options.out, report_stage, settings.loader_processes)
    except CoresetError as error:
        print_error(error)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    if options.json:
        print_json({"file": str(options.out.resolve()), **asdict(done)})
        return
    for warning in done.warnings:
        console.print("[yellow]warning:[/yellow]", warning, highlight=False, soft_wrap=True)
    Console().print(words(done, options.out), highlight=False, soft_wrap=True)


def words(done: Forgotten, out: Path) -> str:
    """Return what was done in one sentence."""
    share = done.removed / done.n_samples
    return (
        f"removed the influence of {done.removed:,} of {done.n_samples:,.0f} samples ({share:.2%}): the weights moved "
        f"by {done.moved:.4g} ({done.moved / done.norm:.2%} of their norm), the mean loss of these samples "
        f"{_step(done.set_loss)}, of the reference batch {_step(done.reference_loss)}. Written to {out}"
    )


def _step(loss: tuple[float, float]) -> str:
    return f"{loss[0]:.4f} -> {loss[1]:.4f}"


if __name__ == "__main__":
    main()
