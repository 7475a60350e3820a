"""Correlations over several draws of a problem: their mean, and an interval for it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

RESAMPLES = 1000


def pooled(draws: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any] | None:
    """Return the mean correlation of score and truth over the draws, with a 95 % bootstrap interval of that mean.

    The samples of each draw are drawn anew, the draws themselves are not: the interval says how far the removed
    samples matter, `by_seed` how far the draws do.

    Args:
        draws: (score (K,), truth (K,)) of each draw.

    Returns:
        None if a score or a truth is not finite or does not vary.
    """
    if not all(np.isfinite(value).all() and np.ptp(value) for draw in draws for value in draw):
        return None
    found: dict[str, Any] = {}
    for name, scale in (("pearson", np.asarray), ("spearman", _ranks)):
        each = [_correlations(scale(score[None]), scale(truth[None])).item() for score, truth in draws]
        again = np.mean([_again(score, truth, scale) for score, truth in draws], axis=0)
        found[name] = float(np.mean(each))
        found[f"{name}_95"] = np.percentile(again, [2.5, 97.5]).tolist()
        found[f"{name}_by_seed"] = each
    return found


def _again(score: np.ndarray, truth: np.ndarray, scale: Any) -> np.ndarray:
    chosen = np.random.default_rng(0).integers(len(truth), size=(RESAMPLES, len(truth)))
    return _correlations(scale(score[chosen]), scale(truth[chosen]))


def _ranks(rows: np.ndarray) -> np.ndarray:
    return stats.rankdata(rows, axis=1)


def _correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation of each row of a (n, K) with that of b."""
    a, b = (x - x.mean(1, keepdims=True) for x in (a, b))
    return (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))
