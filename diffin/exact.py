"""The exact path: automatic differentiation in float64. Slow; the fast path is calibrated and gated by it."""

from typing import Any

import torch
from torch import Tensor

from diffin.autodiff import derivative
from diffin.layout import norm
from diffin.samples import SampleLosses

RELATIVE_STEP = 1e-8
"""Of the one difference taken, as a share of |theta|. Round-off leaves seven digits of it; a longer step would meet the
kinks of ReLU: on a ResNet-18, 1e-6 gave an error of 39 %, 1e-7 and shorter ones of 1e-9."""


def exact_terms(samples: SampleLosses, theta: Tensor, directions: dict[str, Tensor], batch: Any) -> dict[str, Tensor]:
    """Return each estimator's term (n,) at one checkpoint, without its coefficient: D_r, D_v, and eq. 9's bracket.

    nan where a sample's loss is not finite, whatever its derivative.

    Args:
        samples: losses whose model and data are float64.
        theta: (p,) float64.
        directions: float64; `influence`, `target_gradient`, `gradient`, `bend`, as far as there are any.
    """

    def losses(point: Tensor) -> Tensor:
        return samples.losses(point, samples.context(point), batch)

    terms: dict[str, Tensor] = {}
    if "influence" in directions:
        terms["diffin"] = _slope(losses, theta, directions["influence"])
    v = directions.get("target_gradient", directions.get("gradient"))
    if v is not None:
        terms["tracin"] = _slope(losses, theta, v)
        if "bend" in directions:
            mixed = _mixed(losses, theta, v, directions["gradient"])
            terms["diffin_eq9"] = _slope(losses, theta, directions["bend"]) + mixed
    return terms


def _slope(losses: Any, theta: Tensor, direction: Tensor) -> Tensor:
    value, slope = derivative(losses, theta, direction)
    return slope.masked_fill(~value.isfinite(), torch.nan)


def _mixed(losses: Any, theta: Tensor, v: Tensor, b: Tensor) -> Tensor:
    """Return D_v D_b l_z (n,): the exact slope along b, differenced along v."""
    size = norm(v)
    if not size:
        return _slope(losses, theta, v)
    step = RELATIVE_STEP * (norm(theta) or 1.0) / size
    ahead, behind = (_slope(losses, theta + sign * step * v, b) for sign in (1, -1))
    return (ahead - behind) / (2 * step)


def double(directions: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.to(torch.float64) for name, value in directions.items()}
