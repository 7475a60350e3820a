"""What the trials say: a row is what a rule keeps at a size, measured by its proxies, and compared seed by seed."""

import statistics
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.quality.rules import CLIP_SCORE, DEFAULT, FULL, RANDOM
from coreset.browsing.evaluated_cuts import mean_interval
from coreset.schemas.evaluation import Quality

Row = dict[str, Any]
"""pool, rule, fraction, k, faulty (share with something wrong on purpose), seeds, proxies (a Quality a seed)."""


def key(row: Row) -> tuple[str, str, float]:
    return row["pool"], row["rule"], row["fraction"]


def compared(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with their points, and the points above CLIP score and above random at the same seeds."""
    points = {key(row): _points(row) for row in rows}
    found: list[Row] = []
    for row in rows:
        mine = points[key(row)]
        more: Row = {"points": mean_interval(list(mine.values())).model_dump()}
        for name, rival in (("above_clip_score", CLIP_SCORE), ("above_random", RANDOM)):
            theirs = points.get((row["pool"], rival, row["fraction"]), {})
            both = [mine[seed] - theirs[seed] for seed in mine if seed in theirs]
            if both and row["rule"] != rival:
                more[name] = mean_interval(both).model_dump()
        found.append({**row, **more})
    return found


def _points(row: Row) -> dict[int, float]:
    qualities = [Quality.model_validate(proxy).points for proxy in row["proxies"]]
    return dict(zip(row["seeds"], qualities, strict=True))


def gains(rows: Sequence[Row], rule: str) -> dict[str, Any]:
    """Return a rule's mean gain over CLIP score, its worst, and in how many rows it is above random."""
    mine = [row for row in rows if row["rule"] == rule and "above_clip_score" in row]
    if not mine:
        return {}
    worst = min(mine, key=lambda row: row["above_clip_score"]["mean"])
    over_random = [row["above_random"]["mean"] for row in mine if "above_random" in row]
    return {
        "mean_gain_over_clip_score_points": statistics.fmean(row["above_clip_score"]["mean"] for row in mine),
        "worst_gain_over_clip_score_points": worst["above_clip_score"]["mean"],
        "worst_row": f"{worst['pool']}, {worst['fraction']:.0%} kept",
        "compared": len(mine),
        "above_random": sum(gain > 0 for gain in over_random),
    }


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the default rule's gains, and every rule's."""
    names = dict.fromkeys(row["rule"] for row in rows if row["rule"] not in (CLIP_SCORE, FULL))
    return {**gains(rows, DEFAULT), "default": DEFAULT, "by_rule": {name: gains(rows, name) for name in names}}


def show(console: Console, rows: Sequence[Row]) -> None:
    """Print the points of every rule at every size of every pool."""
    rules = list(dict.fromkeys(row["rule"] for row in rows))
    table = Table("pool", "kept", *rules)
    for pool, fraction in dict.fromkeys((row["pool"], row["fraction"]) for row in rows):
        means = {
            row["rule"]: row["points"]["mean"] for row in rows if (row["pool"], row["fraction"]) == (pool, fraction)
        }
        table.add_row(pool, f"{fraction:.0%}", *(f"{means[rule]:.1f}" if rule in means else "" for rule in rules))
    console.print(table)
