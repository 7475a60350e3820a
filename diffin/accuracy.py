"""How well two rankings of the same samples agree, for the accuracy gate."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Agreement:
    """Fast against exact.

    Attributes:
        cosine, worst_relative_error: the latter is max |fast - exact| / max |exact|; inf if a fast score is not finite.
        spearman: None where the exact scores are all the same number in float32: they have no ranking.
        samples: those compared, with a finite exact score.
    """

    cosine: float
    spearman: float | None
    worst_relative_error: float
    samples: int

    def passes(self, spearman: float = 0.99, worst_relative_error: float = 0.02) -> bool:
        """Return whether both are good enough; where there is no ranking, the error alone says it."""
        ranked = self.spearman is None or self.spearman >= spearman
        return ranked and self.worst_relative_error <= worst_relative_error


def agreement(fast: Tensor, exact: Tensor) -> Agreement:
    """Compare two vectors (n,) of scores where exact is finite. Two zero vectors agree, two empty ones do not."""
    fast, exact = fast.double().cpu(), exact.double().cpu()
    fast, exact = fast[exact.isfinite()], exact[exact.isfinite()]
    if not len(exact) or not fast.isfinite().all():
        return Agreement(0.0, 0.0, math.inf, len(exact))
    scale = exact.abs().max()
    if not scale:
        same = not fast.any()
        return Agreement(float(same), None, 0.0 if same else math.inf, len(exact))
    worst = float((fast - exact).abs().max() / scale)
    cosine = float(torch.nn.functional.cosine_similarity(fast / scale, exact / scale, dim=0))
    constant = exact.max() - exact.min() <= torch.finfo(torch.float32).eps * scale
    return Agreement(cosine, None if constant else spearman(fast, exact), worst, len(exact))


def relative_error(fast: Tensor, exact: Tensor) -> float:
    """Return |fast - exact| / |exact|, Euclidean."""
    exact = exact.double()
    return float((fast.double() - exact).norm() / exact.norm().clamp_min(1e-300))


def spearman(a: Tensor, b: Tensor) -> float:
    """Return the rank correlation of two vectors (n,); ties share their mean rank. 0 if one of them is constant."""
    return float(torch.corrcoef(torch.stack([_ranks(a), _ranks(b)]))[0, 1].nan_to_num(0.0))


def _ranks(values: Tensor) -> Tensor:
    _, inverse, counts = torch.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts.double() - 1) / 2)[inverse]
