"""What the trials say: a row is what a rule keeps at a size, measured by its proxies, and compared seed by seed."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.quality.intervals import Unit, spread
from benchmarks.quality.rules import CLIP_SCORE, DEFAULT, FULL, RANDOM, SHELL, WITH_DIFFIN
from coreset.browsing.evaluated_cuts import mean_interval
from coreset.schemas.evaluation import Quality

Row = dict[str, Any]
"""pool, run (the scoring run, 0 if absent), rule, fraction, samples_seen (9,600 if absent), k, faulty (share with
something wrong on purpose), trained (digest of the run's weights), seeds, proxies (a Quality per seed, on the test
split), explore (the same on the other split)."""

KINDS = ("cifar", "flickr", "mixed")
RIVALS = {"above_clip_score": CLIP_SCORE, "above_random": RANDOM, "above_shell": SHELL}


def key(row: Row) -> tuple[str, int, str, float, int]:
    return row["pool"], row.get("run", 0), row["rule"], row["fraction"], row.get("samples_seen", 9_600)


def on_split(rows: Sequence[Row], split: str) -> list[Row]:
    """Return the rows as measured on a split, without what was compared on the other."""
    if split == "test":
        return list(rows)
    return compared([{**row, "proxies": row["explore"]} for row in rows if "explore" in row])


def compared(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with their points, and the points above those of other rules at the same seeds."""
    points = {key(row): _points(row) for row in rows}
    found: list[Row] = []
    for row in rows:
        mine = points[key(row)]
        more: Row = {"points": mean_interval(list(mine.values())).model_dump()}
        for name, rival in RIVALS.items():
            both = list(_differences(row, points, rival).values())
            if both and row["rule"] != rival:
                more[name] = mean_interval(both).model_dump()
        found.append({**{k: v for k, v in row.items() if k not in RIVALS}, **more})
    return found


def _points(row: Row) -> dict[int, float]:
    qualities = [Quality.model_validate(proxy).points for proxy in row["proxies"]]
    return dict(zip(row["seeds"], qualities, strict=True))


def _differences(row: Row, points: dict[Any, dict[int, float]], rival: str) -> dict[int, float]:
    """Return by seed how far a row is above another rule's of the same pool, run, size and budget."""
    theirs = points.get(key(row | {"rule": rival}), {})
    return {seed: mine - theirs[seed] for seed, mine in points[key(row)].items() if seed in theirs}


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
        "by_kind": {name: by_kind(rows, rule, rival) for name, rival in RIVALS.items() if rival != rule},
    }


def by_kind(rows: Sequence[Row], rule: str, rival: str) -> dict[str, Any]:
    """Return by kind of pool, and for all, how far a rule is above another, with intervals; a pool counts once.

    Differences of one pool, run and seed are averaged over the sizes first.
    """
    points = {key(row): _points(row) for row in rows}
    units: dict[Unit, dict[int, list[float]]] = {}
    for row in rows:
        if row["rule"] == rule:
            of_unit = units.setdefault((row["pool"], row.get("run", 0)), {})
            for seed, difference in _differences(row, points, rival).items():
                of_unit.setdefault(seed, []).append(difference)
    found = {unit: [statistics.fmean(of_seed) for of_seed in seeds.values()] for unit, seeds in units.items() if seeds}
    kinds = {kind: {unit: values for unit, values in found.items() if unit[0].startswith(kind)} for kind in KINDS}
    return {kind: asdict(spread(values)) for kind, values in {"all": found, **kinds}.items() if values}


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the default rule's gains, and every rule's.

    `diffin_own_part_points` is what Diff-In and CLIP score have above CLIP score alone in the same shell.
    """
    names = dict.fromkeys(row["rule"] for row in rows if row["rule"] not in (CLIP_SCORE, FULL))
    own = by_kind(rows, WITH_DIFFIN, SHELL)
    return {
        **gains(rows, DEFAULT),
        "default": DEFAULT,
        "diffin_own_part_points": own["all"]["mean"] if own else None,
        "by_rule": {name: gains(rows, name) for name in names},
    }


def show(console: Console, rows: Sequence[Row]) -> None:
    """Print the points of every rule at every size of every pool and run."""
    rules = list(dict.fromkeys(row["rule"] for row in rows))
    table = Table("rule", *dict.fromkeys(_place(row) for row in rows))
    for rule in rules:
        means = {_place(row): f"{row['points']['mean']:.1f}" for row in rows if row["rule"] == rule}
        table.add_row(rule, *(means.get(str(column.header), "") for column in table.columns[1:]))
    console.print(table)


def _place(row: Row) -> str:
    return f"{row['pool']} {row.get('run', 0)}, {row['fraction']:.0%}"
