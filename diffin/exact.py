"""The exact path: automatic differentiation in float64. Slow; the fast path is calibrated and gated by it."""

from typing import Any

import torch
from torch import Tensor

from diffin.autodiff import derivative
from diffin.samples import SampleLosses

RELATIVE_STEP = 1e-6
"""Of the one difference taken, as a share of |theta|: the bend's share of the error goes with its square."""


def exact_terms(samples: SampleLosses, theta: Tensor, directions: dict[str, Tensor], batch: Any) -> dict[str, Tensor]:
    """Return each estimator's term (n,) at one checkpoint, without its coefficient: D_r, D_v, and eq. 9's bracket.

    Args:
        samples: losses whose model and data are float64.
        theta: (p,) float64.
        directions: float64; `influence`, `target_gradient`, `gradient`, `bend`, as far as there are any.
    """

    def losses(point: Tensor) -> Tensor:
        return samples.losses(point, samples.context(point), batch)

    terms: dict[str, Tensor] = {}
    if "influence" in directions:
        terms["diffin"] = derivative(losses, theta, directions["influence"])[1]
    v = directions.get("target_gradient", directions.get("gradient"))
    if v is not None:
        terms["tracin"] = derivative(losses, theta, v)[1]
        if "bend" in directions:
            mixed = _mixed(losses, theta, v, directions["gradient"])
            terms["diffin_eq9"] = derivative(losses, theta, directions["bend"])[1] + mixed
    return terms


def _mixed(losses: Any, theta: Tensor, v: Tensor, b: Tensor) -> Tensor:
    """Return D_v D_b l_z (n,): the exact slope along b, differenced along v."""
    size = v.norm()
    if not size:
        return derivative(losses, theta, v)[1]
    step = RELATIVE_STEP * theta.norm() / size
    ahead, behind = (derivative(losses, theta + sign * step * v, b)[1] for sign in (1, -1))
    return (ahead - behind) / (2 * step)


def double(directions: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.to(torch.float64) for name, value in directions.items()}
