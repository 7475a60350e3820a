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
from diffin.samples import SampleLosses
from diffin.stencil import Stencil, move

FIRST_STEP_EFFECT = 0.03
"""Where the walk starts: a step that changes a typical loss by this much (nats)."""

FIRST_STEP_SHARE = 3e-3

FACTOR = 2.0
LONGEST_WALK = 12


@dataclass(frozen=True)
class Calibration:
    """The chosen step, its relative error, and every (step, error) that was tried."""

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
            step^2, so one measured error tells how much shorter the step must be for it.
    """
    tried: dict[float, float] = {}

    def at(step: float) -> float:
        if step not in tried:
            value = error(make(step))
            tried[step] = value if math.isfinite(value) else math.inf
        return tried[step]

    step = start
    for _ in range(LONGEST_WALK):
        if at(step) < 1:
            break
        step /= 8
    step *= min(1.0, math.sqrt(attainable / max(at(step), 1e-300)))
    way = FACTOR if at(step * FACTOR) < at(step) else 1 / FACTOR
    for _ in range(LONGEST_WALK):
        if at(step * way) >= at(step):
            break
        step *= way
    best = min(tried, key=lambda h: tried[h])
    return Calibration(best, tried[best], tuple(sorted(tried.items())))


def worst_error(fast: dict[str, Tensor], exact: dict[str, Tensor]) -> float:
    """Return the largest relative error over the estimators that a stencil computes."""
    return max(relative_error(value, exact[name].to(value.device)) for name, value in fast.items())


def first_step(slopes: Tensor, theta: Tensor, direction: Tensor, effect: float = FIRST_STEP_EFFECT) -> float:
    """Return where the walk starts: a step that changes a typical loss by `effect` nats.

    Args:
        slopes: exact derivatives (n,) along the direction.
        theta, direction: (p,); the step moves theta by FIRST_STEP_SHARE of its norm at most, since from too short a
            step the way to the valley is downhill, and from too long a one there may be none.
    """
    typical = float(slopes.double().square().mean().sqrt())
    size = float(direction.norm())
    if not typical or not size:
        return 1.0
    return min(effect / typical, FIRST_STEP_SHARE * float(theta.norm()) / size)
