"""How well two rankings of the same samples agree, for the accuracy gate."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Agreement:
    """Fast against exact. `worst_relative_error` is max |fast - exact| / max |exact|."""

    cosine: float
    spearman: float
    worst_relative_error: float
    samples: int

    def passes(self, spearman: float = 0.99, worst_relative_error: float = 0.02) -> bool:
        return self.spearman >= spearman and self.worst_relative_error <= worst_relative_error


def agreement(fast: Tensor, exact: Tensor) -> Agreement:
    """Compare two vectors (n,) of scores. Two zero vectors agree."""
    fast, exact = fast.double().cpu(), exact.double().cpu()
    scale = exact.abs().max()
    if not scale:
        same = float(not fast.any())
        return Agreement(same, same, 0.0 if same else float("inf"), len(exact))
    worst = float((fast - exact).abs().max() / scale)
    cosine = float(torch.nn.functional.cosine_similarity(fast, exact, dim=0))
    return Agreement(cosine, spearman(fast, exact), worst, len(exact))


def relative_error(fast: Tensor, exact: Tensor) -> float:
    """Return |fast - exact| / |exact|, Euclidean."""
    exact = exact.double()
    return float((fast.double() - exact).norm() / exact.norm().clamp_min(1e-300))


def spearman(a: Tensor, b: Tensor) -> float:
    """Return the rank correlation of two vectors (n,); ties share their mean rank."""
    return float(torch.corrcoef(torch.stack([_ranks(a), _ranks(b)]))[0, 1])


def _ranks(values: Tensor) -> Tensor:
    _, inverse, counts = torch.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts.double() - 1) / 2)[inverse]
