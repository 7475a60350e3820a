"""`python -m benchmarks.self_influence --json OUT`: what finds wrong labels, and how well K vectors estimate.

The trainings are those of `benchmarks.truth`. Exact values are from the gradient of every sample; `diffin`'s go back
through training by the adjoint, one sample at a time.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy import stats
from torch import Tensor

from benchmarks.environment import environment
from benchmarks.retraining.digits import digits
from benchmarks.retraining.evidence import Choice, checkpoints_of
from benchmarks.retraining.training import Training
from benchmarks.truth import CASES, Case
from diffin.adjoint import adjoint
from diffin.autodiff import derivative, gradient
from diffin.prepare import DIFFIN, TRACIN, Checkpoint, Problem
from diffin.self_influence import self_influence, signs

VECTORS = (16, 64)
SEEDS = 3
PROBES = 32
EXACT = "exact"


JUDGED = {name: CASES[name] for name in ("digits_300", "digits_sgd", "towers_adam", "towers_sgd_0.1")} | {
    "digits_adam": Case(digits, Training("adamw", 0.003, 400, 64, 400, 1), "MLP, 400 Adam steps of 64, rate 0.003")
}


def exact_tracin(problem: Any, checkpoints: list[Checkpoint]) -> Tensor:
    """Return 1/N sum_t eta_t |G_z|^2 (n,)."""
    total = torch.zeros(len(problem.pool), dtype=torch.float64)
    for checkpoint in checkpoints:
        total += checkpoint.lr * torch.stack([g.square().sum() for g in _gradients(problem, checkpoint)])
    return total / problem.training.samples


def exact_diffin(problem: Any, checkpoints: list[Checkpoint]) -> Tensor:
    """Return I(z, z) (n,) by the adjoint from each sample's own gradient."""
    segments = [checkpoint.segment for checkpoint in checkpoints]
    found = []
    for row, last in enumerate(_gradients(problem, checkpoints[-1])):
        pair = problem.pool[row : row + 1]
        directions = zip(checkpoints, adjoint(segments, last), strict=True)
        found.append(sum(derivative(_loss(c, pair), c.segment.theta, r)[1] for c, r in directions))
    return torch.stack(found) / problem.training.samples


def _gradients(problem: Any, checkpoint: Checkpoint) -> list[Tensor]:
    theta, rows = checkpoint.segment.theta, range(len(problem.pool))
    return [gradient(_loss(checkpoint, problem.pool[row : row + 1]), theta) for row in rows]


def _loss(checkpoint: Checkpoint, sample: Any) -> Callable[[Tensor], Tensor]:
    samples = checkpoint.samples64
    return lambda theta: samples.losses(theta, samples.context(theta), sample).sum()


def mean_loss(problem: Any, checkpoints: list[Checkpoint]) -> Tensor:
    """Return the mean over the checkpoints of l_z (n,)."""
    with torch.no_grad():
        losses = [
            c.samples.losses(c.segment.theta, c.samples.context(c.segment.theta), problem.pool) for c in checkpoints
        ]
    return torch.stack(losses).mean(0)


def area(value: Tensor, wrong: Tensor) -> float:
    """Return the AUC of wrong over right: how often a wrong sample has the higher value."""
    above = stats.mannwhitneyu(value[wrong], value[~wrong]).statistic
    return float(above / (int(wrong.sum()) * int((~wrong).sum())))


def measure(case: Case) -> dict[str, Any]:
    problem: Any = case.make(case.training)
    saved, _ = problem.train(replace(case.training, retrainings=1))
    checkpoints = checkpoints_of(problem, saved, Choice())
    exact = {TRACIN: exact_tracin(problem, checkpoints), DIFFIN: exact_diffin(problem, checkpoints)}
    found: dict[str, Any] = {"wrong": int(problem.wrong.sum()), "samples": len(problem.pool)}
    found["loss"] = area(mean_loss(problem, checkpoints), problem.wrong)
    if (clip_score := problem.clip_score(saved[-1], problem.pool)) is not None:
        found["clip_score"] = area(-clip_score, problem.wrong)
    for name, value in exact.items():
        found[name] = {EXACT: area(value, problem.wrong)} | _by_vectors(problem, checkpoints, name, value)
    return found


def _by_vectors(problem: Any, checkpoints: list[Checkpoint], name: str, exact: Tensor) -> dict[str, Any]:
    """Return, for each K, the means over the seeds of AUC, Spearman with the exact, and the relative error."""
    probes = problem.pool[:PROBES]
    asked = Problem(probes, probes, (name,), problem.training.samples)
    found: dict[str, Any] = {}
    for count in VECTORS:
        values = [
            self_influence(asked, checkpoints, [problem.pool], signs(count, len(checkpoints[0].segment.theta), seed))[
                name
            ].value
            for seed in range(SEEDS)
        ]
        found[str(count)] = {
            "auc": float(np.mean([area(value, problem.wrong) for value in values])),
            "spearman": float(np.mean([_correlation(value, exact) for value in values])),
            "relative_error": float(np.mean([float(((v - exact) / exact).square().mean().sqrt()) for v in values])),
            "sum": float(np.mean([float(value.sum() / exact.sum()) for value in values])),
        }
    return found


def _correlation(a: Tensor, b: Tensor) -> float:
    """Return Spearman's correlation."""
    return float(np.corrcoef(stats.rankdata(a), stats.rankdata(b))[0, 1])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.self_influence", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, metavar="OUT")
    parser.add_argument("--only", choices=JUDGED, action="append", metavar="CASE")
    options = parser.parse_args()
    console, results = Console(), {}
    for name in options.only or JUDGED:
        with console.status(name):
            results[name] = {"training": vars(JUDGED[name].training)} | measure(JUDGED[name])
        show(console, name, results[name])
        whole = {"seeds": SEEDS, "environment": environment(), "cases": results}
        options.json.write_text(json.dumps(whole, indent=2) + "\n")


def show(console: Console, name: str, result: dict[str, Any]) -> None:
    others = ", ".join(f"{score} {result[score]:.3f}" for score in ("loss", "clip_score") if score in result)
    title = f"{name}, {result['wrong']} of {result['samples']} wrong; AUC of {others}"
    table = Table(title=title, title_justify="left")
    for heading in ("self-influence", "AUC, exact", "K", "AUC", "Spearman", "relative error", "sum over exact"):
        table.add_column(heading)
    for score in (TRACIN, DIFFIN):
        for count in map(str, VECTORS):
            cells = [f"{value:.3f}" for value in result[score][count].values()]
            table.add_row(score, f"{result[score][EXACT]:.3f}", count, *cells)
    console.print(table)


if __name__ == "__main__":
    main()
