"""From checkpoints to stencils: directions by the adjoint, steps by calibration, and the accuracy of the outcome."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffin import stencil as st
from diffin.adjoint import LANCZOS_STEPS, Resolution, Segment, trace_back
from diffin.batch_loss import BatchLoss
from diffin.calibrate import calibrate, evaluate, first_step, refine, worst_error
from diffin.exact import double, exact_terms
from diffin.layout import norm
from diffin.samples import SampleLosses

DIFFIN, EQ9, TRACIN = "diffin", "diffin_eq9", "tracin"

ATTAINABLE = {torch.float32: (1e-4, 3e-3), torch.float64: (1.5e-10, 1.3e-7)}
"""Relative errors that a precision allows a first and a second difference: they go with eps^(2/3) and eps^(1/2)."""

Directions = dict[str, Tensor]


@dataclass(frozen=True)
class Problem:
    """What the estimators are about.

    Attributes:
        probes, probes64: a batch of samples for calibration and the accuracy gate, in both precisions.
        estimators: which of diffin, diffin_eq9, tracin.
        n_samples: N.
        lanczos_steps: k of the adjoint, for each minibatch, at most.
        tolerance: residual at which the steps for a minibatch end.
        slopes: first derivatives by forward mode instead of differences; diffin_eq9 has a second one.

    Raises:
        ValueError: slopes with diffin_eq9.
    """

    probes: Any
    probes64: Any
    estimators: tuple[str, ...]
    n_samples: float
    lanczos_steps: int = LANCZOS_STEPS
    tolerance: float = 0.0
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
        redrawn: the segment with other minibatches, or None if `diffin` is traced once.
    """

    segment: Segment
    step: float
    lr: float
    reference: BatchLoss
    target: BatchLoss | None
    samples: SampleLosses
    samples64: SampleLosses
    redrawn: Segment | None = None

    @property
    def target_gradient(self) -> Tensor:
        """v = grad L_V (p,)."""
        return (self.target or self.reference).gradient(self.segment.theta)


@dataclass(frozen=True)
class Prepared:
    """All that scoring at one checkpoint needs besides theta_t, and how exact it is on the probes.

    Attributes:
        directions: (p,) each.
        stencil: with coefficients included: its weighted sums are the checkpoint's terms of the scores. An estimator
            whose factor or direction is 0 has weights 0.
        steps: by estimator, where it has a difference.
        fast, exact: the probes' terms (K,) by estimator, coefficients included. exact is nan or inf where a probe's
            derivatives are; such a probe is left out of the calibration.
    """

    directions: Directions
    stencil: st.Stencil
    steps: dict[str, "Steps"]
    fast: dict[str, Tensor]
    exact: dict[str, Tensor]


@dataclass(frozen=True)
class Steps:
    """The calibrated steps of a difference, by direction, and its relative error on the probes."""

    steps: dict[str, float]
    error: float


@dataclass(frozen=True)
class _Difference:
    """A difference that estimators share.

    Attributes:
        make: (step along each of the directions) -> stencil.
        factors: of the directions, one or two: the step along each for a common step of 1.
        start, attainable: of the calibration of the common step.
    """

    estimators: tuple[str, ...]
    make: Callable[..., st.Stencil]
    factors: dict[str, float]
    start: float
    attainable: float

    def stencil(self, step: float, skew: float = 1.0) -> st.Stencil:
        return self.make(*self.steps(step, skew).values())

    def steps(self, step: float, skew: float = 1.0) -> dict[str, float]:
        """Return the steps by direction: longer by `skew` along the first, shorter by it along the second."""
        return {name: step * f * skew ** (1, -1)[i] for i, (name, f) in enumerate(self.factors.items())}


def coefficients(checkpoint: Checkpoint, n_samples: float, checkpoints: int) -> dict[str, float]:
    """Return each estimator's factor: 1/N, eta/N, and -t eta^2 / (N m), the literal sign of eq. 9."""
    lr, t = checkpoint.lr, checkpoint.step
    return {DIFFIN: 1 / n_samples, TRACIN: lr / n_samples, EQ9: -t * lr**2 / (n_samples * checkpoints)}


@dataclass(frozen=True)
class Influence:
    """The adjoint's directions, by checkpoint.

    Attributes:
        directions: the means over the draws of minibatches.
        draws: the directions by draw and checkpoint.
        resolutions: by draw and checkpoint.
    """

    directions: list[Tensor]
    draws: list[list[Tensor]]
    resolutions: list[list[Resolution]]


def trace_influence(
    problem: Problem, checkpoints: Sequence[Checkpoint], progress: Callable[[float], None] = lambda share: None
) -> Influence:
    """Trace the target's gradient back through training, once for each draw of minibatches.

    The mean of two draws has half the variance that the choice of minibatches brings, and how the two agree says how
    much of it is left (`diffin.accuracy.reliability`).
    """
    draws = [[checkpoint.segment for checkpoint in checkpoints]]
    again = [checkpoint.redrawn for checkpoint in checkpoints if checkpoint.redrawn is not None]
    draws += [again] if len(again) == len(checkpoints) else []
    u_end, found = checkpoints[-1].target_gradient, []
    for done, segments in enumerate(draws):
        count = lambda share, d=done: progress((d + share) / len(draws))  # noqa: E731
        found.append(trace_back(segments, u_end, problem.lanczos_steps, count, problem.tolerance))
    directions = [directions for directions, _ in found]
    means = directions[0]
    if len(directions) > 1:
        means = [torch.stack(of_checkpoint).mean(0) for of_checkpoint in zip(*directions, strict=True)]
    return Influence(means, directions, [resolutions for _, resolutions in found])


def influence_directions(
    problem: Problem, checkpoints: Sequence[Checkpoint], progress: Callable[[float], None] = lambda share: None
) -> list[Tensor] | None:
    """Return the adjoint's direction of every checkpoint, or None if diffin is not wanted."""
    return trace_influence(problem, checkpoints, progress).directions if DIFFIN in problem.estimators else None


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
    theta, factors = checkpoint.segment.theta, coefficients(checkpoint, problem.n_samples, checkpoints)
    exact = exact_terms(checkpoint.samples64, theta.double(), double(directions), problem.probes64)
    counted = tuple(name for name in problem.estimators if factors[name] and directions[_along(name, directions)].any())
    usable = torch.stack([exact[name].isfinite() for name in problem.estimators]).all(0)
    stencils = [st.slope(name, _along(name, directions)) for name in counted] if problem.slopes else []
    steps: dict[str, Steps] = {}
    for difference in () if problem.slopes else _differences(counted, theta, directions, _rows(exact, usable)):

        def error(stencil: st.Stencil) -> float:
            found = evaluate(checkpoint.samples, theta, directions, stencil, problem.probes)
            return worst_error(_rows(found, usable), _rows(exact, usable))

        found = _calibrated(difference, error)
        stencils.append(difference.make(*found.steps.values()))
        steps |= {name: found for name in difference.estimators if name in counted}
    merged = st.merge(stencils, (st.CENTRE,) if centre else ())
    nothing = (0.0,) * len(merged.columns)
    weights = {name: merged.weights[name] if name in counted else nothing for name in problem.estimators}
    stencil = st.Stencil(merged.points, weights, merged.slopes).scaled(factors)
    terms = {name: factors[name] * exact[name] for name in problem.estimators}
    fast = evaluate(checkpoint.samples, theta, directions, stencil, problem.probes) if stencil.columns else terms
    return Prepared(directions, stencil, steps, fast, terms)


def _rows(terms: dict[str, Tensor], usable: Tensor) -> dict[str, Tensor]:
    return {name: value[usable.to(value.device)] for name, value in terms.items()}


def _along(estimator: str, directions: Directions) -> str:
    """Return the name of the direction whose derivative an estimator takes: r, or v. With v = 0, w = H v is 0 too."""
    if estimator == DIFFIN:
        return "influence"
    return "target_gradient" if "target_gradient" in directions else "gradient"


def _calibrated(difference: _Difference, error: Callable[[st.Stencil], float]) -> Steps:
    """Calibrate the step common to all directions, then, of two directions, how it is shared between them."""
    common = calibrate(difference.stencil, error, difference.start, difference.attainable)
    if len(difference.factors) == 1 or not math.isfinite(common.error):
        return Steps(difference.steps(common.step), common.error)
    skew = refine(lambda s: difference.stencil(common.step, s), error, 1.0)
    return Steps(difference.steps(common.step, skew.step), skew.error)


def _differences(
    counted: tuple[str, ...], theta: Tensor, directions: Directions, exact: dict[str, Tensor]
) -> Iterator[_Difference]:
    """Yield each difference that the estimators need; their directions are not zero."""
    first, second = ATTAINABLE[theta.dtype]
    v = _along(TRACIN, directions)
    if EQ9 in counted:
        start = first_step(exact[TRACIN], theta, directions[v], effect=0.1)
        if v == "gradient":
            yield _Difference((TRACIN, EQ9), st.curve, {v: 1.0}, start, second)
        else:
            size = norm(directions["gradient"])  # where b is 0, its step only scales w's
            ratio = norm(directions[v]) / size if size else 1.0
            yield _Difference((TRACIN, EQ9), st.mixed, {v: 1.0, "gradient": ratio}, start, second)
    elif TRACIN in counted:
        yield _simple(TRACIN, v, theta, directions, exact, first)
    if DIFFIN in counted:
        yield _simple(DIFFIN, "influence", theta, directions, exact, first)


def _simple(
    estimator: str, along: str, theta: Tensor, directions: Directions, exact: dict[str, Tensor], attainable: float
) -> _Difference:
    start = first_step(exact[estimator], theta, directions[along])
    return _Difference(
        (estimator,), lambda h: st.first_difference(estimator, along, h), {along: 1.0}, start, attainable
    )


def total(terms: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the scores (n,): the sums of the checkpoints' terms. Later checkpoints may lack some."""
    return {name: torch.stack([term[name] for term in terms if name in term]).sum(0) for name in terms[0]}
