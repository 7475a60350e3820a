"""Intervals of a mean difference over pools, with what varies between scoring runs and between seeds in them."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy import stats

Unit = tuple[str, int]
"""A pool and the number of a scoring run on it: a training run of its own, another V and B."""


@dataclass(frozen=True)
class Spread:
    """A mean over pools.

    Attributes:
        low, high: 95 % interval for these pools; None where nothing was repeated.
        minimal_difference: the least true difference that such a table finds in four of five repetitions, at 5 %.
        holds: what the interval is over. `runs`: whole scoring runs, seeds included. `seeds`: proxies' seeds alone, so
            that it is too narrow by what another training run, V or B would change.
        pools, runs, seeds: how many there are; `seeds` is the least of a scoring run.
    """

    mean: float
    low: float | None
    high: float | None
    minimal_difference: float | None
    holds: str
    pools: int
    runs: int
    seeds: int


def spread(differences: Mapping[Unit, Sequence[float]]) -> Spread:
    """Return the mean over pools of the differences by scoring run and seed, with its interval.

    The variance is pooled: between the runs of a pool if any pool has two, else between the seeds of a run.
    """
    by_pool: dict[str, list[float]] = {}
    for (pool, _), values in differences.items():
        by_pool.setdefault(pool, []).append(statistics.fmean(values))
    mean = statistics.fmean(statistics.fmean(runs) for runs in by_pool.values())
    counts = {"pools": len(by_pool), "runs": len(differences), "seeds": min(map(len, differences.values()))}
    repeated = [runs for runs in by_pool.values() if len(runs) > 1]
    if repeated:
        holds, groups, sizes = "runs", repeated, [len(runs) for runs in by_pool.values()]
    else:
        holds, groups = "seeds", [list(values) for values in differences.values() if len(values) > 1]
        sizes = [len(values) for values in differences.values()]
    freedom = sum(len(group) - 1 for group in groups)
    if not freedom:
        return Spread(mean, None, None, None, "nothing", **counts)
    variance = sum(statistics.variance(group) * (len(group) - 1) for group in groups) / freedom
    error = math.sqrt(variance * sum(1 / size for size in sizes)) / len(sizes)
    quantile = float(stats.t.ppf(0.975, freedom))
    least = (quantile + float(stats.t.ppf(0.8, freedom))) * error
    return Spread(mean, mean - quantile * error, mean + quantile * error, least, holds, **counts)
