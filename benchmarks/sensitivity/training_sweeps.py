"""How the agreement with leave-one-out retraining moves with the estimators' inputs, and with the training."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.retraining.digits import digits
from benchmarks.retraining.evidence import Choice, Outcome, RetrainedProblem, retrain, scores
from benchmarks.retraining.training import Saved, Training
from benchmarks.retraining.two_towers import two_towers
from benchmarks.sensitivity.correlation import pooled
from diffin.adjoint import lanczos

SWEEPS: dict[str, tuple[int, ...]] = {
    "checkpoints": (1, 3, 5, 10, 20),
    "size": (32, 64, 128, 256, 512),
    "lanczos_steps": (1, 2, 3, 5, 10),
    "pieces": (1, 2, 5, 10, 20),
}
"""Fields of `Choice`, one of which is varied while the others are as a job has them."""

WATCHED = 10
"""Points of a training at which its loss and its curvature are measured."""

POWER = 10
"""Lanczos steps that find the largest eigenvalue."""


@dataclass(frozen=True)
class Restarts(Training):
    """A training whose cosine restarts `cycles` times."""

    cycles: int = 4

    def lr(self, step: int) -> float:
        """Return the learning rate of a 0-based step."""
        length = self.steps // self.cycles
        return super(Restarts, replace(self, steps=length)).lr(step % length)


@dataclass(frozen=True)
class Case:
    """A training of a problem, and which sweeps it is for.

    Attributes:
        family: what is varied on the way from one case to the next: the rate.
        rate: the highest learning rate.
    """

    make: Callable[[Training], RetrainedProblem]
    training: Training
    family: str
    sweeps: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.family}_{self.training.rate:g}"


TOWERS = {"steps": 300, "batch_size": 64, "samples": 512, "retrainings": 40, "floor": 0.02}
DIGITS = {"steps": 600, "batch_size": 64, "samples": 400, "retrainings": 40}
ALL = tuple(SWEEPS)


def _family(
    family: str,
    make: Callable[[Training], RetrainedProblem],
    training: Callable[..., Training],
    rates: Iterable[float],
    sweeps: dict[float, tuple[str, ...]],
) -> list[Case]:
    return [Case(make, training(rate=rate), family, sweeps.get(rate, ())) for rate in rates]


CASES = [
    *_family("towers_adam", two_towers, partial(Training, "adamw", **TOWERS), [0.003], {0.003: ALL}),
    *_family(
        "towers_sgd",
        two_towers,
        partial(Training, "sgd", **TOWERS),
        [0.05, 0.1, 0.5, 1.0, 2.0],
        {0.1: ALL, 0.5: ALL, 2.0: ("checkpoints",)},
    ),
    *_family("towers_restarts", two_towers, partial(Restarts, "sgd", **TOWERS), [0.5], {0.5: ("checkpoints",)}),
    *_family("digits_sgd", digits, partial(Training, "sgd", **DIGITS), [0.05, 0.2, 0.5, 1.0, 2.0], {0.2: ALL}),
    *_family("digits_restarts", digits, partial(Restarts, "sgd", **DIGITS), [0.5], {0.5: ("checkpoints",)}),
]


@dataclass(frozen=True)
class Draw:
    """A problem of one seed, retrained: what leaving samples out did, and the first-order part of that."""

    problem: RetrainedProblem
    outcome: Outcome
    first_order: Tensor
    known: dict[Choice, dict[str, Tensor]] = field(default_factory=dict)

    @classmethod
    def of(cls, case: Case, seed: int) -> "Draw":
        training = replace(case.training, seed=seed)
        problem = case.make(training)
        return cls(problem, retrain(problem, training), retrain(problem, training.lowered()).truth)

    def scores(self, choice: Choice) -> dict[str, Tensor]:
        if choice not in self.known:
            self.known[choice] = scores(self.problem, self.outcome.saved, choice)
        return self.known[choice]


def measure(case: Case, seeds: Iterable[int], sweeps: dict[str, tuple[int, ...]] = SWEEPS) -> dict[str, Any]:
    """Retrain a case for each seed, and return the agreement at the usual choice and along the case's sweeps."""
    draws = [Draw.of(case, seed) for seed in seeds]
    usual = agreement(draws, Choice())
    ceiling = _pooled([(draw.first_order, draw.outcome.truth) for draw in draws])
    return {
        "family": case.family,
        "training": asdict(case.training),
        "watched": [watch(draw.problem, draw.outcome.saved) for draw in draws],
        "agreement": usual | {"first_order": ceiling},
        "sweeps": {name: sweep(draws, name, sweeps[name]) for name in case.sweeps},
    }


def sweep(draws: list[Draw], name: str, values: Iterable[int]) -> list[dict[str, Any]]:
    """Return the agreement for each value of one field of `Choice` that the training has steps and samples for."""
    least = min(draw.problem.training.samples for draw in draws)
    possible = [value for value in values if name != "size" or value <= least]
    return [{"value": value, **agreement(draws, replace(Choice(), **{name: value}))} for value in possible]


def agreement(draws: list[Draw], choice: Choice) -> dict[str, Any]:
    found = [draw.scores(choice) for draw in draws]
    return {
        name: _pooled([(score[name], draw.outcome.truth) for score, draw in zip(found, draws, strict=True)])
        for name in found[0]
    }


def _pooled(draws: list[tuple[Tensor, Tensor]]) -> dict[str, Any] | None:
    return pooled([(np.asarray(score), np.asarray(truth)) for score, truth in draws])


def watch(problem: RetrainedProblem, saved: list[Saved]) -> dict[str, list[float]]:
    """Return the loss of all samples at a few points of a training, and there eta times the largest eigenvalue of P H.

    Full-batch descent on a quadratic is unstable from 2 on.
    """
    rows = torch.arange(problem.training.samples)
    points = [saved[i] for i in np.linspace(0, len(saved) - 1, WATCHED + 1).astype(int)]
    loss: Any = problem
    losses = [loss.loss_without(one.theta, rows, torch.ones(len(rows), dtype=one.theta.dtype)) for one in points]
    return {
        "step": [one.step for one in points],
        "loss": [float(value) for value in losses],
        "rate_times_curvature": [_stability(problem, one) for one in points[1:]],
    }


def _stability(problem: RetrainedProblem, one: Saved) -> float:
    minibatch = problem.loss(one, problem.pool[torch.arange(problem.training.batch_size)])
    root = torch.ones_like(one.theta) if one.preconditioner is None else one.preconditioner.sqrt()
    start = torch.randn(len(root), generator=torch.Generator().manual_seed(0), dtype=root.dtype)
    largest = lanczos(lambda v: root * minibatch.hvp(one.theta, root * v), start, POWER).values.max()
    return problem.training.lr(one.step - 1) * float(largest)
