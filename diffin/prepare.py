"""From checkpoints to stencils: directions by the adjoint, steps by calibration, and the accuracy of the outcome."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffin import stencil as st
from diffin.adjoint import LANCZOS_STEPS, Segment, adjoint
from diffin.batch_loss import BatchLoss
from diffin.calibrate import Calibration, calibrate, evaluate, first_step, worst_error
from diffin.exact import double, exact_terms
from diffin.samples import SampleLosses

DIFFIN, EQ9, TRACIN = "diffin", "diffin_eq9", "tracin"

FIRST, SECOND = 1e-4, 3e-3
"""Relative errors that float32 allows a first and a second difference (docs/method.md)."""

Directions = dict[str, Tensor]


@dataclass(frozen=True)
class Problem:
    """What the estimators are about.

    Attributes:
        probes, probes64: a batch of samples for calibration and the accuracy gate, in both precisions.
        estimators: which of diffin, diffin_eq9, tracin.
        n_samples: N.
        lanczos_steps: k of the adjoint, for each minibatch.
        slopes: first derivatives by forward mode instead of differences; diffin_eq9 has a second one.

    Raises:
        ValueError: slopes with diffin_eq9.
    """

    probes: Any
    probes64: Any
    estimators: tuple[str, ...]
    n_samples: float
    lanczos_steps: int = LANCZOS_STEPS
    slopes: bool = False

    def __post_init__(self) -> None:
        if self.slopes and EQ9 in self.estimators:
            raise ValueError("diffin_eq9 is a second derivative: it needs differences, not slopes")


@dataclass(frozen=True)
class Checkpoint:
    """theta_t as a segment of the training run, and the losses there.

    Attributes:
        segment: with theta_t (p,).
        step, lr: t and eta_t.
        reference: L_B.
        target: L_V; None if V = training, then L_V = L_B.
        samples, samples64: per-sample losses in the working precision and in float64.
    """

    segment: Segment
    step: float
    lr: float
    reference: BatchLoss
    target: BatchLoss | None
    samples: SampleLosses
    samples64: SampleLosses

    @property
    def target_gradient(self) -> Tensor:
        """v = grad L_V (p,)."""
        return (self.target or self.reference).gradient(self.segment.theta)


@dataclass(frozen=True)
class Prepared:
    """All that scoring at one checkpoint needs besides theta_t, and how exact it is on the probes.

    Attributes:
        directions: (p,) float32 each, those that the stencil's points use.
        stencil: with coefficients included: its weighted sums are the checkpoint's terms of the scores.
        calibrations: by estimator.
        fast, exact: the probes' terms (K,) by estimator, coefficients included.
    """

    directions: Directions
    stencil: st.Stencil
    calibrations: dict[str, Calibration]
    fast: dict[str, Tensor]
    exact: dict[str, Tensor]


def coefficients(checkpoint: Checkpoint, n_samples: float, checkpoints: int) -> dict[str, float]:
    """Return each estimator's factor: 1/N, eta/N, and -t eta^2 / (N m), the literal sign of eq. 9."""
    lr, t = checkpoint.lr, checkpoint.step
    return {DIFFIN: 1 / n_samples, TRACIN: lr / n_samples, EQ9: -t * lr**2 / (n_samples * checkpoints)}


def influence_directions(
    problem: Problem, checkpoints: Sequence[Checkpoint], progress: Callable[[float], None] = lambda share: None
) -> list[Tensor] | None:
    """Return the adjoint's direction of every checkpoint, or None if diffin is not wanted."""
    if DIFFIN not in problem.estimators:
        return None
    segments = [checkpoint.segment for checkpoint in checkpoints]
    return adjoint(segments, checkpoints[-1].target_gradient, problem.lanczos_steps, progress)


def local_directions(problem: Problem, checkpoint: Checkpoint) -> Directions:
    """Return b, v and w at one checkpoint, as far as tracin and diffin_eq9 need them."""
    reference, theta = checkpoint.reference, checkpoint.segment.theta
    directions: Directions = {}
    if not {EQ9, TRACIN} & set(problem.estimators):
        return directions
    if checkpoint.target is not None:
        directions["target_gradient"] = checkpoint.target_gradient
    if checkpoint.target is None or EQ9 in problem.estimators:
        directions["gradient"] = reference.gradient(theta)
    if EQ9 in problem.estimators:
        directions["bend"] = reference.hvp(theta, directions.get("target_gradient", directions["gradient"]))
    return directions


def prepare(
    problem: Problem, checkpoint: Checkpoint, directions: Directions, checkpoints: int, centre: bool
) -> Prepared:
    """Calibrate one checkpoint's steps, if it has any, and measure its accuracy on the probes.

    Args:
        directions: local_directions, and `influence` from the adjoint.
        checkpoints: m.
        centre: whether the stencil must hold the checkpoint itself (for loss and CLIP score).
    """
    theta = checkpoint.segment.theta
    exact = exact_terms(checkpoint.samples64, theta.double(), double(directions), problem.probes64)
    stencils, calibrations = [], {}
    for make, names, start, attainable in () if problem.slopes else _candidates(problem, theta, directions, exact):
        error = lambda s: worst_error(evaluate(checkpoint.samples, theta, directions, s, problem.probes), exact)  # noqa: E731
        found = calibrate(make, error, start, attainable)
        stencils.append(make(found.step))
        calibrations |= dict.fromkeys(names, found)
    if problem.slopes:
        stencils = [st.slope(name, _along(name, directions)) for name in problem.estimators]
    merged = st.merge(stencils, (st.CENTRE,) if centre else ())
    wanted = {name: row for name, row in merged.weights.items() if name in problem.estimators}
    factors = coefficients(checkpoint, problem.n_samples, checkpoints)
    stencil = st.Stencil(merged.points, wanted, merged.slopes).scaled(factors)
    fast = evaluate(checkpoint.samples, theta, directions, stencil, problem.probes)
    return Prepared(directions, stencil, calibrations, fast, {name: factors[name] * exact[name] for name in fast})


def _along(estimator: str, directions: Directions) -> str:
    """Return the direction whose slope is an estimator's term."""
    if estimator == DIFFIN:
        return "influence"
    return "target_gradient" if "target_gradient" in directions else "gradient"


def _candidates(problem: Problem, theta: Tensor, directions: Directions, exact: dict[str, Tensor]):
    """Yield (step -> stencil, estimators, first step, attainable error) of each difference that the estimators need."""
    v = _along(TRACIN, directions)
    if EQ9 in problem.estimators:
        start = first_step(exact[TRACIN], theta, directions[v], effect=0.1)
        if v == "gradient":
            yield st.curve, (TRACIN, EQ9), start, SECOND
        else:
            ratio = float(directions[v].norm() / directions["gradient"].norm())
            yield (lambda h: st.mixed(h, h * ratio)), (TRACIN, EQ9), start, SECOND
    elif TRACIN in problem.estimators:
        yield (
            (lambda h: st.first_difference(TRACIN, v, h)),
            (TRACIN,),
            first_step(exact[TRACIN], theta, directions[v]),
            FIRST,
        )
    if DIFFIN in problem.estimators:
        yield (
            (lambda h: st.first_difference(DIFFIN, "influence", h)),
            (DIFFIN,),
            first_step(exact[DIFFIN], theta, directions["influence"]),
            FIRST,
        )


def total(terms: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the scores (n,): the sums of the checkpoints' terms."""
    return {name: torch.stack([term[name] for term in terms]).sum(0) for name in terms[0]}
