"""The step size of a difference: too long and the curve bends away, too short and round-off takes over.

Ten times off costs up to a hundredfold in error, and the right step differs between checkpoints and directions, so
it is measured: the error against the exact path on a few samples.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffin.accuracy import relative_error
from diffin.autodiff import derivative
from diffin.layout import norm
from diffin.samples import SampleLosses
from diffin.stencil import Stencil, move

FIRST_STEP_EFFECT = 0.03
"""Where the walk starts: a step that changes a typical loss by this much (nats)."""

FIRST_STEP_SHARE = 3e-3

IN_THE_VALLEY = 0.1
"""The error below which a step is not too long. Where kinks, as those of ReLU, lie closer than the step, a second
difference has errors from 0.2 to 1 whatever the step, until it is short enough to meet none (docs/method.md)."""

FACTOR = 2.0
LONGEST_WALK = 12


@dataclass(frozen=True)
class Calibration:
    """The chosen step, its relative error (inf if no step has a finite one), and every (step, error) that was tried."""

    step: float
    error: float
    tried: tuple[tuple[float, float], ...]


def evaluate(
    samples: SampleLosses, theta: Tensor, directions: dict[str, Tensor], stencil: Stencil, batch: Any
) -> dict[str, Tensor]:
    """Return each estimator of a stencil (n,) in float64, by one forward pass of the batch and of B a column."""
    columns = []
    with torch.no_grad():
        for point in stencil.points:
            moved = move(theta, point, directions)
            columns.append(samples.losses(moved, samples.context(moved), batch).double())
        for name in stencil.slopes:
            losses = lambda point: samples.losses(point, samples.context(point), batch)  # noqa: E731
            columns.append(derivative(losses, theta, directions[name])[1].double())
    table = torch.stack(columns, 1)
    return {name: table @ table.new_tensor(row) for name, row in stencil.weights.items()}


def calibrate(
    make: Callable[[float], Stencil], error: Callable[[Stencil], float], start: float, attainable: float
) -> Calibration:
    """Find the step with the least error: first into the valley, then walk along it by factors of two.

    Args:
        make: step -> stencil.
        error: stencil -> relative error; inf or nan counts as worse than anything.
        start: a step of about the right size.
        attainable: the error that round-off allows. While the curve's bend rules, the error is proportional to
            step^2, so one measured error gives how much shorter the step must be for it.
    """
    at = _Tried(make, error)
    step = start
    for _ in range(LONGEST_WALK):
        if at(step) < IN_THE_VALLEY:
            break
        step /= 8
    if math.isfinite(at.best.error):
        at.walk(at.best.step * min(1.0, math.sqrt(attainable / max(at.best.error, 1e-300))))
    return at.best


def refine(make: Callable[[float], Stencil], error: Callable[[Stencil], float], start: float) -> Calibration:
    """Walk along the valley alone, from a step that is in it. Arguments as for `calibrate`."""
    at = _Tried(make, error)
    at.walk(start)
    return at.best


class _Tried:
    """Errors by step, each measured once."""

    def __init__(self, make: Callable[[float], Stencil], error: Callable[[Stencil], float]) -> None:
        self._make, self._error = make, error
        self._errors: dict[float, float] = {}

    def __call__(self, step: float) -> float:
        if step not in self._errors:
            value = self._error(self._make(step))
            self._errors[step] = value if math.isfinite(value) else math.inf
        return self._errors[step]

    def walk(self, step: float) -> None:
        way = FACTOR if self(step * FACTOR) < self(step) else 1 / FACTOR
        for _ in range(LONGEST_WALK):
            if self(step * way) >= self(step):
                break
            step *= way

    @property
    def best(self) -> Calibration:
        step = min(self._errors, key=lambda h: self._errors[h])
        return Calibration(step, self._errors[step], tuple(sorted(self._errors.items())))


def worst_error(fast: dict[str, Tensor], exact: dict[str, Tensor]) -> float:
    """Return the largest relative error over the estimators that a stencil computes; inf if one is not finite."""
    errors = [relative_error(value, exact[name].to(value.device)) for name, value in fast.items()]
    return max(errors) if all(map(math.isfinite, errors)) else math.inf


def first_step(slopes: Tensor, theta: Tensor, direction: Tensor, effect: float = FIRST_STEP_EFFECT) -> float:
    """Return where the walk starts: a step that changes a typical loss by `effect` nats.

    Args:
        slopes: exact derivatives (n,) along the direction, finite.
        theta, direction: (p,), the latter not zero. The step moves theta by FIRST_STEP_SHARE of its norm at most, since
            from too short a step the way to the valley is downhill, and from too long a one there may be none.
    """
    slopes = slopes.double()
    typical = float(slopes.norm()) / math.sqrt(max(len(slopes), 1))
    longest = FIRST_STEP_SHARE * (norm(theta) or 1.0) / norm(direction)
    return min(effect / typical, longest) if typical else longest
