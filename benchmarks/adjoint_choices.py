"""`python -m benchmarks.adjoint_choices --json OUT`: how `diffin`'s pieces, Lanczos steps and minibatches are chosen.

On the two towers of `benchmarks.truth`, over several draws of pool, captions, weights, minibatches and removed samples:
what differs by less than the draws do is no reason to choose.
"""

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.environment import environment
from benchmarks.retraining.evidence import Choice, diffin_scores, retrain, unrolled
from benchmarks.retraining.two_towers import two_towers
from benchmarks.truth import CASES

TRAININGS = ("towers_sgd_0.1", "towers_sgd_0.5", "towers_adam")
CHOICES = {
    "5 pieces of 3 steps": Choice(),
    "other minibatches": Choice(seed=1),
    "theta between the ends": Choice(between=True),
    "3 pieces of 5 steps": Choice(pieces=3, lanczos_steps=5),
    "8 pieces of 2 steps": Choice(pieces=8, lanczos_steps=2),
    "15 pieces of 1 step": Choice(pieces=15, lanczos_steps=1),
    "1 piece of 15 steps": Choice(pieces=1, lanczos_steps=15),
    "minibatches of 128": Choice(size=128),
    "minibatches of 512": Choice(size=512),
    "5 pieces of 8 steps": Choice(lanczos_steps=8),
    "20 pieces of 3 steps": Choice(pieces=20),
}


def measure(name: str, seed: int) -> dict[str, Any]:
    """Return each choice's Pearson correlation with what leaving one out did, and with the first-order part of it."""
    training = replace(CASES[name].training, seed=seed)
    problem = two_towers(training)
    outcome = retrain(problem, training)
    truths = {"truth": outcome.truth, "first_order": retrain(problem, training.lowered()).truth}
    found = {label: diffin_scores(problem, outcome.saved, choice) for label, choice in CHOICES.items()}
    if training.optimizer == "sgd":
        found |= unrolled(problem, outcome.saved)
    found["first-order part of the truth"] = truths["first_order"]
    return {
        kind: {label: float(np.corrcoef(score, truth)[0, 1]) for label, score in found.items()}
        for kind, truth in truths.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adjoint_choices", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, metavar="OUT")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    console = Console()
    found: dict[str, dict[str, Any]] = {name: {} for name in TRAININGS}
    for seed in options.seeds:
        for name in TRAININGS:
            with console.status(f"{name}, draw {seed}"):
                found[name][str(seed)] = measure(name, seed)
            console.print(f"{name}, draw {seed}: done")
            choices = {label: asdict(choice) for label, choice in CHOICES.items()}
            whole = {"environment": environment(), "choices": choices, "pearson": found}
            options.json.write_text(json.dumps(whole, indent=2) + "\n")
    for name, by_seed in found.items():
        show(console, name, list(by_seed.values()))


def show(console: Console, name: str, draws: list[dict[str, Any]]) -> None:
    table = Table(title=f"{name}: Pearson, mean (least to greatest) over {len(draws)} draws", title_justify="left")
    for heading in ("diffin by", "leaving one out", "its first-order part"):
        table.add_column(heading)
    for label in draws[0]["truth"]:
        cells = []
        for kind in ("truth", "first_order"):
            values = [draw[kind][label] for draw in draws]
            cells.append(f"{np.mean(values):+.3f} ({min(values):+.2f} to {max(values):+.2f})")
        table.add_row(label, *cells)
    console.print(table)


if __name__ == "__main__":
    main()
