"""`python -m benchmarks.truth --json OUT`: how well each estimator foretells what leaving a sample out does.

The estimators are those of `diffin/`, with exact derivatives in float64: their differences are measured elsewhere.
"""

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy import stats
from torch import Tensor

from benchmarks.two_towers import Outcome, Problem, Training, encode
from diffin import prepare
from diffin.adjoint import Segment
from diffin.contrastive import LossKind, cosine
from diffin.exact import exact_terms
from diffin.samples import ContrastiveLosses

TRAININGS = {
    "Adam, rate 0.003": Training("adam", 0.003),
    "SGD, rate 0.1": Training("sgd", 0.1),
    "SGD, rate 0.5": Training("sgd", 0.5),
}
CHECKPOINTS = 5
REFERENCE_SIZE = 256
MINIBATCHES = 5
RESAMPLES = 2000


def scores(problem: Problem, outcome: Outcome, seed: int = 0) -> dict[str, Tensor]:
    """Return each estimator's scores (K,) of the removed samples, V = validation, and CLIP score."""
    t = problem.training
    numbers = torch.Generator().manual_seed(seed)
    reference = problem.pool[torch.randperm(t.samples, generator=numbers)[:REFERENCE_SIZE]]
    samples = ContrastiveLosses(encode, reference, LossKind.INFO_NCE)
    probes = problem.pool[outcome.removed]
    checkpoints, before = [], 0
    for saved in outcome.saved[t.steps // CHECKPOINTS - 1 :: t.steps // CHECKPOINTS]:
        chosen = [torch.randperm(t.samples, generator=numbers)[:REFERENCE_SIZE] for _ in range(MINIBATCHES)]
        segment = Segment(
            saved.theta,
            sum(t.lr(step) for step in range(before, saved.step)),
            [problem.loss(problem.pool[rows]) for rows in chosen],
            saved.preconditioner,
        )
        target, loss = problem.loss(problem.validation), problem.loss(reference)
        lr = t.lr(saved.step - 1)
        checkpoints.append(prepare.Checkpoint(segment, saved.step, lr, loss, target, samples, samples))
        before = saved.step
    estimators = (prepare.DIFFIN, prepare.EQ9, prepare.TRACIN)
    asked = prepare.Problem(probes, probes, estimators, t.samples)
    influence = prepare.influence_directions(asked, checkpoints)
    assert influence is not None
    terms = []
    for checkpoint, r in zip(checkpoints, influence, strict=True):
        directions = prepare.local_directions(asked, checkpoint) | {"influence": r}
        exact = exact_terms(samples, checkpoint.segment.theta, directions, probes)
        factors = prepare.coefficients(checkpoint, t.samples, CHECKPOINTS)
        terms.append({name: factors[name] * value for name, value in exact.items()})
    return prepare.total(terms) | {"clip_score": cosine(encode(outcome.saved[-1].theta, probes))}


def agreement(score: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """Return Pearson's and Spearman's correlation with the truth, each with a 95 % bootstrap interval."""
    found: dict[str, Any] = {}
    correlations: dict[str, Any] = {"pearson": stats.pearsonr, "spearman": stats.spearmanr}
    for name, correlation in correlations.items():
        again = stats.bootstrap(
            (score, truth),
            lambda a, b, c=correlation: c(a, b)[0],
            paired=True,
            vectorized=False,
            n_resamples=RESAMPLES,
            method="percentile",
            rng=0,
        ).confidence_interval
        found[name] = float(correlation(score, truth)[0])
        found[f"{name}_95"] = [float(again.low), float(again.high)]
    return found


def measure(training: Training) -> dict[str, Any]:
    problem, started = Problem(training), time.monotonic()
    outcome = problem.train()
    found = {name: agreement(s.numpy(), outcome.truth.numpy()) for name, s in scores(problem, outcome).items()}
    return {"training": vars(training), "seconds": time.monotonic() - started, "agreement": found}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.truth", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, metavar="OUT")
    options = parser.parse_args()
    console = Console()
    results = {}
    for name, training in TRAININGS.items():
        with console.status(f"{name}: {training.left_out} trainings without a sample"):
            results[name] = measure(training)
        show(console, name, results[name])
    environment = {"torch": torch.__version__, "python": platform.python_version(), "machine": platform.machine()}
    settings = {"checkpoints": CHECKPOINTS, "reference": REFERENCE_SIZE, "minibatches": MINIBATCHES}
    whole = {"environment": environment, "settings": settings, "trainings": results}
    options.json.write_text(json.dumps(whole, indent=2) + "\n")


def show(console: Console, name: str, result: dict[str, Any]) -> None:
    table = Table(title=f"{name}, {result['seconds']:.0f} s", title_justify="left")
    for heading in ("score", "Pearson", "95 %", "Spearman", "95 %"):
        table.add_column(heading, justify="left" if heading == "score" else "right")
    for score, found in result["agreement"].items():
        cells = []
        for kind in ("pearson", "spearman"):
            low, high = found[f"{kind}_95"]
            cells += [f"{found[kind]:+.2f}", f"{low:+.2f} to {high:+.2f}"]
        table.add_row(score, *cells)
    console.print(table)


if __name__ == "__main__":
    main()
