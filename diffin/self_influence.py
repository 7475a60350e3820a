"""I(z, z), a sample's influence on itself, by forward passes: high where training had to learn z from z alone.

Every influence is linear in the target's gradient. With V = z that gradient is G_z itself, which is never formed. But
for random xi with E[xi xi^T] = 1 it is G_z = E[xi D_xi l_z], so

    I(z, z) = E[ D_xi l_z * (I(z, V) with xi in the place of grad L_V) ]

and the second factor is what the other modules compute, along directions that all samples share:

    tracin      1/N sum_t eta_t (D_xi l_z)^2
    diffin_eq9  -1/(N m) sum_t t eta_t^2 D_xi l_z (D_{H_B xi} l_z + D_xi D_b l_z)
    diffin      1/N D_{P^1/2 xi} l_z(theta_T) sum_t D_{r_t} l_z(theta_t),  r_t: the adjoint from u_T = P^-1/2 xi

The mean over K signs vectors has a relative error of about sqrt(2/K) (docs/method.md, section 10).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from diffin import stencil as st
from diffin.adjoint import adjoint
from diffin.calibrate import evaluate
from diffin.exact import exact_terms
from diffin.prepare import DIFFIN, EQ9, TRACIN, Checkpoint, Directions, Problem, Steps, coefficients, prepare
from diffin.samples import SampleLosses

LANCZOS_STEPS = 10
"""For each minibatch. A random vector has little in the directions of high curvature, so it takes more of them to find
these than from a gradient: with 3, diffin came out 5 to 30 % too high (docs/method.md, section 10)."""


@dataclass(frozen=True)
class Estimate:
    """I(z, z) (n,), and the standard error (n,) of each, from the scatter of its K terms."""

    value: Tensor
    error: Tensor


def signs(count: int, size: int, seed: int) -> Tensor:
    """Return `count` vectors xi of random signs, (count, size) int8 on the CPU.

    Signs have the least variance of all xi with independent entries.
    """
    numbers = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2, (count, size), generator=numbers, dtype=torch.int8).mul_(2).sub_(1)


def self_influence(
    problem: Problem,
    checkpoints: Sequence[Checkpoint],
    batches: Sequence[Any],
    frame: Iterable[Tensor],
    lanczos_steps: int = LANCZOS_STEPS,
) -> dict[str, Estimate]:
    """Return each estimator's I(z, z) of the samples in `batches`; the checkpoints' own target is not used.

    Args:
        frame: K >= 2 vectors xi (p,) whose outer products have the mean 1, as those of `signs`.

    Cost in forward passes a sample, for each xi and checkpoint: tracin 2, diffin_eq9 (with tracin) 4, diffin 2 and once
    2 more. Besides, for each xi, the adjoint's Hessian-vector products for diffin, and one a checkpoint for diffin_eq9.
    Memory: that of one batch, and the adjoint's m directions.
    """
    differences = _Differences(problem, batches)
    terms: dict[str, list[Tensor]] = {name: [] for name in problem.estimators}
    for vector in frame:
        xi = vector.to(checkpoints[0].segment.theta)
        found: dict[str, Tensor] = {}
        if DIFFIN in terms:
            found[DIFFIN] = _by_recursion(differences, checkpoints, xi, lanczos_steps)
        if {TRACIN, EQ9} & terms.keys():
            found |= _by_closed_forms(differences, checkpoints, xi)
        for name, row in terms.items():
            row.append(found[name])
    stacked = {name: torch.stack(row) for name, row in terms.items()}
    return {name: Estimate(s.mean(0), s.std(0) / len(s) ** 0.5) for name, s in stacked.items()}


def _by_recursion(differences: "_Differences", checkpoints: Sequence[Checkpoint], xi: Tensor, steps: int) -> Tensor:
    last = checkpoints[-1].segment.preconditioner
    root = torch.ones_like(xi) if last is None else last.sqrt()
    directions = adjoint([c.segment for c in checkpoints], torch.where(root > 0, xi / root, 0), steps)
    own = differences.slope("own", len(checkpoints) - 1, checkpoints[-1], root * xi)
    traced = [differences.slope(DIFFIN, i, c, r) for i, (c, r) in enumerate(zip(checkpoints, directions, strict=True))]
    return own * torch.stack(traced).sum(0) / differences.problem.n_samples


def _by_closed_forms(differences: "_Differences", checkpoints: Sequence[Checkpoint], xi: Tensor) -> dict[str, Tensor]:
    wanted, sums = differences.problem.estimators, {}
    for index, checkpoint in enumerate(checkpoints):
        if EQ9 in wanted:
            terms = differences.bracket(index, checkpoint, xi)
        else:
            terms = {TRACIN: differences.slope(TRACIN, index, checkpoint, xi)}
        factors = coefficients(checkpoint, differences.problem.n_samples, len(checkpoints))
        for name, term in terms.items():
            sums[name] = sums.get(name, 0) + factors[name] * terms[TRACIN] * term
    return sums


@dataclass
class _Differences:
    """Directional derivatives of all samples' losses. Steps are calibrated along the first xi, and kept for the
    others, which differ only by their draw."""

    problem: Problem
    batches: Sequence[Any]
    steps: dict[tuple[str, int], Steps] = field(default_factory=dict[tuple[str, int], Steps])

    def slope(self, kind: str, index: int, checkpoint: Checkpoint, direction: Tensor) -> Tensor:
        """Return D_direction l_z (n,); the steps of each kind are shared."""
        if not direction.any():
            return torch.zeros(sum(map(len, self.batches)), dtype=torch.float64, device=direction.device)
        make = lambda h: st.first_difference(DIFFIN, "influence", h)  # noqa: E731
        return self._values((kind, index), checkpoint, DIFFIN, {"influence": direction}, make)[DIFFIN]

    def bracket(self, index: int, checkpoint: Checkpoint, xi: Tensor) -> dict[str, Tensor]:
        """Return D_xi l_z and eq. 9's bracket (n,) for v = xi."""
        reference, theta = checkpoint.reference, checkpoint.segment.theta
        directions = {
            "target_gradient": xi,
            "gradient": reference.gradient(theta),
            "bend": reference.hvp(theta, xi),
        }
        return self._values((EQ9, index), checkpoint, EQ9, directions, st.mixed)

    def _values(
        self,
        key: tuple[str, int],
        checkpoint: Checkpoint,
        estimator: str,
        directions: Directions,
        make: Callable[..., st.Stencil],
    ) -> dict[str, Tensor]:
        if key not in self.steps:
            self.steps[key] = _calibrated(self.problem, checkpoint, estimator, directions)
        samples, stencil = _InBatches(checkpoint.samples), make(*self.steps[key].steps.values())
        return evaluate(samples, checkpoint.segment.theta, directions, stencil, self.batches)


def _calibrated(problem: Problem, checkpoint: Checkpoint, estimator: str, directions: Directions) -> Steps:
    """Return the steps of an estimator's difference along directions that are not zero."""
    bare = replace(problem, estimators=(estimator,), n_samples=1.0, slopes=False)
    unit = replace(checkpoint, step=1.0, lr=1.0)  # a rate of 0 would need no steps
    return prepare(bare, unit, directions, 1, centre=False).steps[estimator]


@dataclass(frozen=True)
class _InBatches:
    """Losses of many batches, one at a time, at a point whose context is computed once."""

    samples: SampleLosses

    def context(self, theta: Tensor) -> Any:
        return self.samples.context(theta)

    def losses(self, theta: Tensor, context: Any, batch: Sequence[Any]) -> Tensor:
        return torch.cat([self.samples.losses(theta, context, one) for one in batch])


SIGN = "sign/"
"""Prefix of the names under which a stencil has the vectors of a frame as directions, and the slopes along them."""

GATED = 2
"""Vectors along which the fast slopes are compared with the exact ones; vectors differ only by their draw."""


@dataclass(frozen=True)
class OwnSlopes:
    """What tracin's self-influence needs at one checkpoint: the slopes of l_z along the vectors of a frame.

    Attributes:
        stencil: its weights give D_xi l_z for each xi under `sign/0`, `sign/1`, ...
        steps: of the differences; None for forward mode.
        fast, exact: of the probes (n,), the mean of (D_xi l_z)^2 over the first GATED vectors.
    """

    stencil: st.Stencil
    steps: Steps | None
    fast: Tensor
    exact: Tensor


def named(frame: Tensor) -> Directions:
    """Return the vectors of a frame (K, p) by their names in a stencil."""
    return {f"{SIGN}{k}": xi for k, xi in enumerate(frame)}


def own_slopes(problem: Problem, checkpoint: Checkpoint, frame: Tensor) -> OwnSlopes:
    """Calibrate the slopes along a frame (K, p) at one checkpoint, and measure them on the probes."""
    theta, names = checkpoint.segment.theta, list(named(frame))
    directions = {name: xi.to(theta) for name, xi in named(frame[:GATED]).items()}
    steps = None
    if not problem.slopes:
        steps = _calibrated(problem, checkpoint, DIFFIN, {"influence": directions[names[0]]})
    each = [st.first_difference(n, n, *steps.steps.values()) if steps else st.slope(n, n) for n in names]
    fast = evaluate(checkpoint.samples, theta, directions, st.merge(each[:GATED]), problem.probes)
    exact = [
        exact_terms(checkpoint.samples64, theta.double(), {"influence": xi.double()}, problem.probes64)[DIFFIN]
        for xi in directions.values()
    ]
    squares = lambda terms: torch.stack(list(terms)).square().mean(0)  # noqa: E731
    return OwnSlopes(st.merge(each), steps, squares(fast.values()), squares(exact))
