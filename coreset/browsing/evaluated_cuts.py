"""Quality of the evaluated cuts: means and confidence intervals over the seeds, and differences to the baselines."""

import math
import statistics
from collections.abc import Mapping, Sequence

from coreset.schemas.evaluation import Cut, EvaluatedCut, SeedQuality, TrialOutcome
from coreset.schemas.intervals import Interval
from coreset.spec.evaluation import BASELINES

STUDENT_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093,
)  # fmt: skip
"""Its quantile at 0.975 by degrees of freedom, from 1 on: an evaluation has at most 20 seeds."""


def mean_interval(values: Sequence[float]) -> Interval:
    """Return the interval of the mean of 1 to 20 values."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return Interval(mean=mean, low=None, high=None)
    half = STUDENT_T[len(values) - 2] * statistics.stdev(values) / math.sqrt(len(values))
    return Interval(mean=mean, low=mean - half, high=mean + half)


def evaluate_cuts(cuts: list[Cut], found: Mapping[tuple[Cut, int], TrialOutcome]) -> list[EvaluatedCut]:
    """Return what the proxies of each cut can do, and how far above the baselines of the same size they are.

    Args:
        found: the outcomes by cut and seed.
    """
    by_cut: dict[Cut, dict[int, float]] = {cut: {} for cut in cuts}
    for (cut, seed), outcome in found.items():
        by_cut[cut][seed] = outcome.quality.points
    return [
        EvaluatedCut(
            selection=cut.selection,
            fraction=cut.fraction,
            k=cut.k,
            proxies=[
                SeedQuality(seed=seed, points=points, quality=found[cut, seed].quality)
                for seed, points in sorted(by_cut[cut].items())
            ],
            points=_interval(list(by_cut[cut].values())),
            against=_against(cut, by_cut),
        )
        for cut in cuts
    ]


def _against(cut: Cut, by_cut: Mapping[Cut, dict[int, float]]) -> dict[str, Interval]:
    found: dict[str, Interval] = {}
    for other, points in by_cut.items():
        if other.selection not in BASELINES or other.selection == cut.selection or other.k != cut.k:
            continue
        both = sorted(points.keys() & by_cut[cut].keys())
        difference = _interval([by_cut[cut][seed] - points[seed] for seed in both])
        if difference is not None:
            found[other.selection] = difference
    return found


def _interval(values: list[float]) -> Interval | None:
    return mean_interval(values) if values else None
