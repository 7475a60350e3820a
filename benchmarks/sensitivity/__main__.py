"""`python -m benchmarks.sensitivity --json OUT`: where each estimator breaks.

Against leave-one-out retraining: the number of checkpoints, B's size, the Lanczos steps, the minibatches a segment, and
ever more erratic trainings. Against exact derivatives: the step of each difference. `python -m benchmarks.plots` draws
the figures.
"""

import argparse
import json
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.environment import environment
from benchmarks.retraining.evidence import Choice
from benchmarks.sensitivity import correlation, step_sweep, training_sweeps

STEPS = "steps"
TASKS: dict[str, Callable[[list[int]], dict[str, Any]]] = {
    **{case.name: partial(training_sweeps.measure, case) for case in training_sweeps.CASES},
    STEPS: step_sweep.measure,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sensitivity", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, metavar="OUT")
    parser.add_argument("--only", choices=TASKS, action="append", metavar="PART", help="measure this part of OUT again")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    console = Console()
    parts = json.loads(options.json.read_text())["parts"] if options.only and options.json.exists() else {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.processes, context, initializer=_one_thread) as processes:
        waiting = {processes.submit(_timed, name, options.seeds): name for name in options.only or TASKS}
        for done in as_completed(waiting):
            parts[waiting[done]] = _told(done, waiting[done], console)
            write(options.json, parts)


def write(path: Path, parts: dict[str, Any]) -> None:
    settings = {"usual": asdict(Choice()), "bootstrap_resamples": correlation.RESAMPLES}
    ordered = {name: parts[name] for name in TASKS if name in parts}
    path.write_text(json.dumps({"settings": settings, "parts": ordered}, indent=1) + "\n")


def _told(done: Future[dict[str, Any]], name: str, console: Console) -> dict[str, Any]:
    part = done.result()
    console.print(f"{name}: {part['seconds']:.0f} s")
    return part


def _timed(name: str, seeds: list[int]) -> dict[str, Any]:
    started, used = time.monotonic(), time.process_time()
    found = TASKS[name](seeds)
    seconds = {"seconds": time.monotonic() - started, "processor_seconds": time.process_time() - used}
    return found | seconds | {"seeds": seeds, "environment": environment()}


def _one_thread() -> None:
    torch.set_num_threads(1)


if __name__ == "__main__":
    main()
