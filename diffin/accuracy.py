"""Agreement of two rankings of the same samples: fast with exact, and one draw of minibatches with another."""

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


@dataclass(frozen=True)
class Reliability:
    """Agreement of a score with itself under another draw of minibatches.

    Attributes:
        between_draws: Spearman's correlation of the scores by one draw with those by the other.
        of_mean: the correlation to be expected between the mean of both, which is the score, and the mean of two
            further draws: 2 r / (1 + r), by Spearman and Brown, 0 where r is negative.
        samples: those compared.
    """

    between_draws: float
    of_mean: float
    samples: int


def reliability(first: Tensor, second: Tensor) -> Reliability:
    """Compare the scores (n,) by two draws, where both are finite."""
    finite = first.isfinite() & second.isfinite()
    found = spearman(first[finite].double().cpu(), second[finite].double().cpu())
    return Reliability(found, max(0.0, 2 * found / (1 + found)) if found > -1 else 0.0, int(finite.sum()))


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
