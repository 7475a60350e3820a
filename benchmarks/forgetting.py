"""`python -m benchmarks.forgetting --json OUT`: the weights without a set, beside those of training again without it.

The trainings are those of `benchmarks.truth`; two draws of each set.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.environment import environment
from benchmarks.retraining.evidence import Choice, checkpoints_of
from benchmarks.retraining.training import side_by_side
from benchmarks.truth import CASES
from diffin.batch_loss import MeanLoss
from diffin.contrastive import LossKind, Pairs
from diffin.parameter_influence import ContrastiveSetLoss, SetLoss, parameter_influence
from diffin.prepare import Checkpoint
from diffin.samples import ContrastiveLosses

TRAININGS = ("digits_300", "digits_sgd", "towers_adam", "towers_sgd_0.1")
SIZES = (5, 20, 80)
LANCZOS_STEPS = (1, 3, 10)
DRAWS = 2


def set_loss(problem: Any, checkpoint: Checkpoint, removed: Any) -> SetLoss:
    if not isinstance(removed, Pairs):
        return MeanLoss(checkpoint.samples64.function, [removed], problem.training.samples)  # type: ignore[attr-defined]
    samples = checkpoint.samples64
    assert isinstance(samples, ContrastiveLosses)
    assert samples.kind is LossKind.INFO_NCE
    return ContrastiveSetLoss(samples, [removed], problem.training.samples)


def measure(name: str, size: int, steps: tuple[int, ...] = LANCZOS_STEPS) -> list[dict[str, Any]]:
    """Return, for each draw of a set and number of Lanczos steps, how the estimate compares with retraining."""
    training = replace(CASES[name].training, retrainings=DRAWS, removed=size)
    problem: Any = CASES[name].make(training)
    saved, thetas = side_by_side(training, problem.start, problem.loss_without)
    checkpoints = checkpoints_of(problem, saved, Choice())
    found = []
    for draw, rows in enumerate(training.groups()):
        removed, truth = problem.pool[rows], thetas[draw] - thetas[-1]
        losses = [set_loss(problem, checkpoint, removed) for checkpoint in checkpoints]
        for k in steps:
            influence = parameter_influence([c.segment for c in checkpoints], losses, k)
            compared = _compared(problem, checkpoints[-1], influence, truth, removed)
            found.append({"draw": draw, "size": size, "lanczos_steps": k} | compared)
    return found


def _compared(problem: Any, last: Checkpoint, influence: Tensor, truth: Tensor, removed: Any) -> dict[str, float]:
    """Return cosine, rest, and the share of the change of two losses that the estimate shows."""
    theta = last.segment.theta

    def change(step: Tensor, batch: Any) -> Tensor:
        with torch.no_grad():
            return _mean(last, theta + step, batch) - _mean(last, theta, batch)

    shares = {
        f"share_{what}": float(change(influence, batch) / change(truth, batch))
        for what, batch in (("set", removed), ("validation", problem.validation))
    }
    return {
        "cosine": float(torch.cosine_similarity(influence, truth, dim=0)),
        "rest": float((influence - truth).norm() / truth.norm()),
        **shares,
    }


def _mean(last: Checkpoint, theta: Tensor, batch: Any) -> Tensor:
    return last.samples64.losses(theta, last.samples64.context(theta), batch).mean()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forgetting", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, metavar="OUT")
    options = parser.parse_args()
    console, results = Console(), {}
    for name in TRAININGS:
        with console.status(name):
            results[name] = [row for size in SIZES for row in measure(name, size)]
        show(console, name, results[name])
        whole = {"environment": environment(), "cases": results}
        options.json.write_text(json.dumps(whole, indent=2) + "\n")


def show(console: Console, name: str, rows: list[dict[str, Any]]) -> None:
    table = Table(title=name, title_justify="left")
    for heading in ("set", "draw", "Lanczos steps", "cosine", "rest", "share, set", "share, validation"):
        table.add_column(heading)
    for row in rows:
        cells = [f"{row[key]:.2f}" for key in ("cosine", "rest", "share_set", "share_validation")]
        table.add_row(str(row["size"]), str(row["draw"]), str(row["lanczos_steps"]), *cells)
    console.print(table)


if __name__ == "__main__":
    main()
