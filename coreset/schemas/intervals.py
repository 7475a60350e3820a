"""Confidence intervals of a mean over a few seeds, by Student's t."""

import math
import statistics
from collections.abc import Sequence

from coreset.spec.base import Strict

STUDENT_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093,
)  # fmt: skip
"""Its quantile at 0.975 by degrees of freedom, from 1 on: an evaluation has at most 20 seeds."""


class Interval(Strict):
    """A mean and its 95 % confidence interval by Student's t; no bounds where there is one value only."""

    mean: float
    low: float | None
    high: float | None


def interval(values: Sequence[float]) -> Interval:
    """Return the interval of the mean of 1 to 20 values."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return Interval(mean=mean, low=None, high=None)
    half = STUDENT_T[len(values) - 2] * statistics.stdev(values) / math.sqrt(len(values))
    return Interval(mean=mean, low=mean - half, high=mean + half)
