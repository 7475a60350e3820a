"""What the trials say: a cut is a rule at a size, measured by its proxies, and compared seed by seed."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.quality.rules import CLIP_SCORE, DEFAULT, FULL, RANDOM
from coreset.evaluation import Quality
from coreset.intervals import interval


@dataclass(frozen=True)
class Cut:
    """Some samples of a pool, chosen by a rule.

    Attributes:
        faulty: share of the samples with something wrong on purpose.
    """

    pool: str
    rule: str
    fraction: float
    uids: tuple[str, ...]
    faulty: float


def rows(measured: Mapping[Cut, Sequence[Quality]]) -> list[dict[str, Any]]:
    """Return a row a cut: quality by seed, their mean, and the points above CLIP score and above random."""
    points = {(cut.pool, cut.rule, cut.fraction): [q.points for q in found] for cut, found in measured.items()}
    found: list[dict[str, Any]] = []
    for cut, qualities in measured.items():
        mine = points[cut.pool, cut.rule, cut.fraction]
        row: dict[str, Any] = {"pool": cut.pool, "rule": cut.rule, "fraction": cut.fraction, "k": len(cut.uids)}
        row |= {"faulty": round(cut.faulty, 4), "points": interval(mine).model_dump()}
        for name, rival in (("above_clip_score", CLIP_SCORE), ("above_random", RANDOM)):
            theirs = points.get((cut.pool, rival, cut.fraction))
            if theirs and cut.rule != rival:
                row[name] = interval([a - b for a, b in zip(mine, theirs, strict=True)]).model_dump()
        found.append(row | {"proxies": [q.model_dump() for q in qualities]})
    return found


def gains(rows: Sequence[Mapping[str, Any]], rule: str) -> dict[str, Any]:
    """Return a rule's mean gain over CLIP score, its worst, and how many cuts are above random, over all cuts."""
    mine = [row for row in rows if row["rule"] == rule and "above_clip_score" in row]
    above = [row["above_clip_score"]["mean"] for row in mine]
    over_random = [row["above_random"]["mean"] for row in mine if "above_random" in row]
    if not above:
        return {}
    worst = min(mine, key=lambda row: row["above_clip_score"]["mean"])
    return {
        "mean_gain_over_clip_score_points": statistics.fmean(above),
        "worst_gain_over_clip_score_points": min(above),
        "worst_cut": f"{worst['pool']} {worst['fraction']:g}",
        "cuts": len(above),
        "cuts_above_random": sum(gain > 0 for gain in over_random),
        "mean_gain_over_random_points": statistics.fmean(over_random) if over_random else None,
    }


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the default rule's gains, and every rule's."""
    names = list(dict.fromkeys(row["rule"] for row in rows if row["rule"] not in (CLIP_SCORE, FULL)))
    return {**gains(rows, DEFAULT), "default": DEFAULT, "by_rule": {name: gains(rows, name) for name in names}}


def show(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the points of every rule at every size of every pool."""
    rules = list(dict.fromkeys(row["rule"] for row in rows))
    table = Table("pool", "kept", *rules)
    for pool, fraction in dict.fromkeys((row["pool"], row["fraction"]) for row in rows):
        means = {r["rule"]: r["points"]["mean"] for r in rows if (r["pool"], r["fraction"]) == (pool, fraction)}
        table.add_row(pool, f"{fraction:.0%}", *(f"{means[rule]:.1f}" if rule in means else "" for rule in rules))
    console.print(table)
