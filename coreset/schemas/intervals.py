"""A confidence interval of a mean over a few seeds."""

from coreset.spec.base import FrozenModel


class Interval(FrozenModel):
    """A mean and its 95 % confidence interval by Student's t; no bounds where there is one value only."""

    mean: float
    low: float | None
    high: float | None
