"""`python -m benchmarks.truth --json OUT`: how well each estimator foretells what leaving samples out does."""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

from benchmarks.environment import environment
from benchmarks.retraining.contrastive import ContrastiveProblem
from benchmarks.retraining.digits import digits
from benchmarks.retraining.evidence import Choice, RetrainedProblem, retrain, scores, unrolled
from benchmarks.retraining.replay import replayed
from benchmarks.retraining.resnet import WIDTH, resnet
from benchmarks.retraining.tiny_clip import tiny_clip
from benchmarks.retraining.training import Training
from benchmarks.retraining.two_towers import two_towers
from benchmarks.retraining.vocabulary_clip import vocabulary_clip

RESAMPLES = 2000


@dataclass(frozen=True)
class Case:
    """A training of a problem.

    Attributes:
        model: for people.
        side_by_side: whether the weights of left out samples can be lowered instead, and every step is saved.
        replay: nothing is left out; the first-order part of the truth comes from the training's own derivative.
    """

    make: Callable[[Training], RetrainedProblem]
    training: Training
    model: str
    side_by_side: bool = True
    replay: bool = False


DIGITS = partial(Training, "sgd", samples=400, retrainings=60)
TOWERS = partial(Training, steps=400, batch_size=64, samples=512, retrainings=100, floor=0.02)
CIFAR = ("resnet_cifar10", "resnet_cifar10_groups")
FINE_TUNING = partial(Training, "sgd", 0.002, 160, 64, 5000, 30)
RESNET = f"ResNet-18 of width {WIDTH}, CIFAR-10"

CASES = {
    "digits_300": Case(digits, DIGITS(0.1, 300, 400, cosine=False), "MLP, 300 full-batch steps, rate 0.1"),
    "digits_1000": Case(digits, DIGITS(0.1, 1000, 400, cosine=False), "MLP, 1000 full-batch steps, rate 0.1"),
    "digits_sgd": Case(digits, DIGITS(0.2, 1000, 64), "MLP, 1000 SGD steps of 64, cosine from 0.2"),
    "towers_adam": Case(two_towers, TOWERS("adamw", 0.003), "two towers, Adam, rate 0.003"),
    "towers_sgd_0.1": Case(two_towers, TOWERS("sgd", 0.1), "two towers, SGD, rate 0.1"),
    "towers_sgd_0.5": Case(two_towers, TOWERS("sgd", 0.5), "two towers, SGD, rate 0.5"),
    "tiny_clip": Case(
        tiny_clip,
        Training("adamw", 3e-4, 150, 128, 512, 30, removed=26, warmup=10, weight_decay=0.2),
        "tiny open_clip CLIP, AdamW, groups of 26",
    ),
    "vocabulary_clip": Case(
        vocabulary_clip,
        Training("adamw", 3e-4, 160, 64, 1024, 30, removed=51, warmup=16, weight_decay=0.2),
        "tiny open_clip CLIP, its whole vocabulary, AdamW, groups of 51",
        replay=True,
    ),
    CIFAR[0]: Case(resnet, FINE_TUNING(), RESNET, side_by_side=False),  # type: ignore[arg-type] # its folder: `main`
    CIFAR[1]: Case(resnet, FINE_TUNING(removed=250), f"{RESNET}, groups of 250", side_by_side=False),  # type: ignore[arg-type]
}


def agreement(score: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """Return Pearson's and Spearman's correlation with the truth, each with a 95 % bootstrap interval."""
    chosen = np.random.default_rng(0).integers(len(truth), size=(RESAMPLES, len(truth)))
    found: dict[str, Any] = {}
    for name, scale in (("pearson", np.asarray), ("spearman", partial(stats.rankdata, axis=1))):
        found[name] = float(_correlations(scale(score[None]), scale(truth[None]))[0])
        again = _correlations(scale(score[chosen]), scale(truth[chosen]))
        found[f"{name}_95"] = np.percentile(again, [2.5, 97.5]).tolist()
    return found


def _correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation of each row of a (n, K) with that of b."""
    a, b = (x - x.mean(1, keepdims=True) for x in (a, b))
    return (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))


def measure(case: Case, say: Callable[[str], None] = lambda what: None) -> dict[str, Any]:
    """Return how each score agrees with the truth, and how far the truth can be trusted.

    `another_order` is the truth again, of trainings with other minibatches (full-batch ones start elsewhere): a score
    that does not know the order cannot be expected to do better. `lowered_weights` is the first-order part of the
    truth, and `agreement_first_order` holds the scores to that part alone.
    """
    started, training = time.monotonic(), case.training
    problem = case.make(training)
    if case.replay:
        return measure_replayed(case, say) | {"seconds": time.monotonic() - started, "environment": environment()}
    say(f"{training.retrainings} trainings without {training.removed} of {training.samples}")
    outcome = retrain(problem, training)
    found = {name: value.numpy() for name, value in scores(problem, outcome.saved).items()}
    truth = outcome.truth.numpy()
    say("the same in another order")
    truths = {"another_order": retrain(problem, training.again()).truth.numpy()}
    if case.side_by_side:
        say("the same with lowered weights")
        truths["lowered_weights"] = retrain(problem, training.lowered()).truth.numpy()
        if training.optimizer == "sgd":
            say("the recursion at every step")
            found |= {name: value.numpy() for name, value in unrolled(problem, outcome.saved).items()}
    result = {
        "model": case.model,
        "training": asdict(training),
        "effect": {"mean": float(truth.mean()), "standard_deviation": float(truth.std())},
        "agreement": {name: agreement(score, truth) for name, score in found.items()},
        "truth": {name: agreement(other, truth) for name, other in truths.items()},
    }
    if case.side_by_side:
        first_order = {name: agreement(score, truths["lowered_weights"]) for name, score in found.items()}
        result["agreement_first_order"] = first_order
    return result | {"seconds": time.monotonic() - started, "environment": environment()}


def measure_replayed(case: Case, say: Callable[[str], None] = lambda what: None) -> dict[str, Any]:
    """Return how each score of groups agrees with the first-order part of the truth, by replay.

    `replayed_p_frozen` is the same derivative with each step's P for a constant: the most that `diffin` can know.
    `diffin_gauss_newton` has the Gauss-Newton matrix in the place of the Hessian, which `diffin` has in every row.
    """
    training, problem = case.training, case.make(case.training)
    assert isinstance(problem, ContrastiveProblem)
    every, groups = training.steps // Choice().checkpoints, training.groups()
    say("the training's own derivative")
    saved, single = replayed(problem, every)
    say("the same with P frozen")
    found = {"replayed_p_frozen": replayed(problem, every, frozen=True)[1][groups].sum(1)}
    say("the scores")
    found |= scores(problem, saved)
    found["diffin_gauss_newton"] = scores(problem, saved, Choice(gauss_newton=True))["diffin"]
    truth = single[groups].sum(1).numpy()
    return {
        "model": case.model,
        "training": asdict(training),
        "effect": {"mean": float(truth.mean()), "standard_deviation": float(truth.std())},
        "agreement": {},
        "truth": {},
        "agreement_first_order": {name: agreement(score.numpy(), truth) for name, score in found.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.truth", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, metavar="OUT")
    parser.add_argument("--only", choices=CASES, action="append", metavar="CASE", help="measure this row of OUT again")
    parser.add_argument("--cifar", type=Path, metavar="FOLDER", help="WebDataset shards of CIFAR-10, for the ResNet")
    options = parser.parse_args()
    console = Console()
    results = json.loads(options.json.read_text())["cases"] if options.only and options.json.exists() else {}
    for name in options.only or CASES:
        case, folder = CASES[name], options.cifar
        if name in CIFAR:
            if folder is None:
                console.print(f"{name}: skipped, since --cifar gives no folder with its images")
                continue
            case = replace(case, make=partial(resnet, folder=folder))
        with console.status(name) as status:
            results[name] = measure(case, lambda what, s=status, n=name: s.update(f"{n}: {what}"))
        show(console, name, results[name])
        write(options.json, results)


def write(path: Path, results: dict[str, Any]) -> None:
    settings = asdict(Choice()) | {"bootstrap_resamples": RESAMPLES}
    ordered = {name: results[name] for name in CASES if name in results}
    path.write_text(json.dumps({"settings": settings, "cases": ordered}, indent=2) + "\n")


def show(console: Console, name: str, result: dict[str, Any]) -> None:
    table = Table(title=f"{name}: {result['model']}, {result['seconds']:.0f} s", title_justify="left")
    for heading in ("score", "Pearson", "95 %", "Spearman", "95 %", "Pearson, first order"):
        table.add_column(heading, justify="left" if heading == "score" else "right")
    for score, found in (result["agreement"] | result["truth"]).items() or [*result["agreement_first_order"].items()]:
        cells = []
        for kind in ("pearson", "spearman"):
            low, high = found[f"{kind}_95"]
            cells += [f"{found[kind]:+.2f}", f"{low:+.2f} to {high:+.2f}"]
        first_order = result.get("agreement_first_order", {}).get(score)
        table.add_row(score, *cells, f"{first_order['pearson']:+.2f}" if first_order else "")
    console.print(table)


if __name__ == "__main__":
    main()
