"""`python -m benchmarks.quality.tables JSON [--by-kind SPLIT]`: the tables of docs/quality.md, as Markdown."""

import argparse
import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.quality.rules import CLIP_SCORE, DEFAULT, FULL, RANDOM, SHELL
from benchmarks.quality.table import KINDS, Row, by_kind, on_split

NAMES = {
    "cifar_clean": "CIFAR-10, right labels",
    "cifar_aggre": "CIFAR-10N aggre, 9 % wrong",
    "cifar_random1": "CIFAR-10N random1, 17 % wrong",
    "cifar_worse": "CIFAR-10N worse, 40 % wrong",
    "flickr_natural": "Flickr8k as it is",
    "flickr_swapped": "Flickr8k, 30 % of captions swapped",
    "flickr_nonsense": "Flickr8k, 30 % fillers and nonsense",
    "flickr_duplicates": "Flickr8k, 30 % near copies",
    "mixed_photos": "mixed, V and test photos",
    "mixed_classes": "mixed, V and test class-named",
    "mixed_scenes": "mixed, V and test drawn scenes",
    "cifar_longtail": "CIFAR-10, long-tailed classes",
    "flickr_boilerplate": "Flickr8k, 50 % boilerplate captions",
}


RIVAL_RULES = (CLIP_SCORE, SHELL)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.tables", description=__doc__)
    parser.add_argument("json", type=Path)
    parser.add_argument("--by-kind", choices=["explore", "test"], help="the tables of rules measured by scoring run")
    options = parser.parse_args()
    rows = json.loads(options.json.read_text())["rows"]
    if options.by_kind:
        found = on_split(rows, options.by_kind)
        print(
            "\n".join(points_table(found)), *("\n".join(kinds_table(found, rival)) for rival in RIVAL_RULES), sep="\n\n"
        )
        return
    print("\n".join(by_pool(rows)), *(f"\n{text}" for text in by_rule(rows)), sep="\n")


def by_pool(rows: Sequence[Row]) -> Iterable[str]:
    """Yield a line for every pool and size: the default, chance and CLIP score."""
    found = {(row["pool"], row["rule"], row["fraction"]): row for row in rows}
    yield "| pool | full | kept | random | CLIP score | default | above CLIP score (95 %) | above random |"
    yield "|---|---|---|---|---|---|---|---|"
    for pool, name in NAMES.items():
        for place, fraction in enumerate(sorted(f for p, rule, f in found if (p, rule) == (pool, DEFAULT))):
            row = found[pool, DEFAULT, fraction]
            first = f"{name} | {_points(found.get((pool, FULL, 1.0)))}" if place == 0 else " | "
            points = " | ".join(_points(found.get((pool, rule, fraction))) for rule in (RANDOM, CLIP_SCORE, DEFAULT))
            yield f"| {first} | {fraction:.0%} | {points} | {_gain(row)} | {_above_random(row)} |"


def by_rule(rows: Sequence[Row]) -> Iterable[str]:
    """Yield a table for every set of pools, sizes and seeds that some rules were measured on alone."""
    measured = {rule: _where(rows, rule) for rule in dict.fromkeys(row["rule"] for row in rows)}
    for where in dict.fromkeys(tuple(sorted(measured[rule])) for rule in measured if rule not in (CLIP_SCORE, FULL)):
        rules = [rule for rule in measured if rule not in (CLIP_SCORE, FULL) and set(where) <= set(measured[rule])]
        yield "\n".join(_table([row for row in rows if (row["pool"], row["fraction"]) in where], rules))


def _where(rows: Sequence[Row], rule: str) -> list[tuple[str, float]]:
    return [(row["pool"], row["fraction"]) for row in rows if row["rule"] == rule]


def _table(rows: Sequence[Row], rules: Sequence[str]) -> Iterable[str]:
    sizes = ", ".join(f"{fraction:.0%}" for fraction in sorted({row["fraction"] for row in rows}))
    yield f"| kept {sizes} | CIFAR-10 | Flickr8k | mixed | mean above CLIP score | worst row | above random |"
    yield "|---|---|---|---|---|---|---|"
    means: dict[str, float] = {}
    lines: dict[str, str] = {}
    for rule in rules:
        mine = [row for row in rows if row["rule"] == rule]
        gains = {(row["pool"], row["fraction"]): row["above_clip_score"]["mean"] for row in mine}
        by_kind = [_mean(gain for (pool, _), gain in gains.items() if pool.startswith(kind)) for kind in KINDS]
        means[rule], worst = statistics.fmean(gains.values()), min(gains, key=gains.__getitem__)
        over = [row["above_random"]["mean"] > 0 for row in mine if "above_random" in row]
        share = f"{sum(over)} of {len(over)}" if over else ""
        place = f"{gains[worst]:+.1f} ({worst[0]}, {worst[1]:.0%})"
        lines[rule] = f"| {rule} | {' | '.join(by_kind)} | **{means[rule]:+.1f}** | {place} | {share} |"
    yield from (lines[rule] for rule in sorted(rules, key=means.__getitem__, reverse=True))


def points_table(rows: Sequence[Row]) -> Iterable[str]:
    """Yield a line for every rule: its mean points on every pool, over sizes, runs and seeds."""
    pools = [pool for pool in NAMES if any(row["pool"] == pool for row in rows)]
    yield f"| rule | {' | '.join(NAMES[pool] for pool in pools)} |"
    yield f"|---{'|---' * len(pools)}|"
    for rule in dict.fromkeys(row["rule"] for row in rows):
        cells = [[row["points"]["mean"] for row in rows if (row["pool"], row["rule"]) == (p, rule)] for p in pools]
        yield f"| {rule} | {' | '.join(f'{statistics.fmean(each):.1f}' if each else '' for each in cells)} |"


def kinds_table(rows: Sequence[Row], rival: str) -> Iterable[str]:
    """Yield a line for every rule: how far it is above a rival, by kind of pool, with 95 % intervals."""
    yield f"| above {rival} | CIFAR-10 | Flickr8k | mixed | all pools | least visible | pools, runs, seeds |"
    yield "|---|---|---|---|---|---|---|"
    for rule in dict.fromkeys(row["rule"] for row in rows):
        found = by_kind(rows, rule, rival)
        if found and rule not in (rival, FULL):
            whole = found["all"]
            least = "" if whole["minimal_difference"] is None else f"{whole['minimal_difference']:.1f}"
            counts = f"{whole['pools']}, {whole['runs']}, {whole['seeds']}"
            cells = " | ".join(_with_interval(found.get(kind)) for kind in (*KINDS, "all"))
            yield f"| {rule} | {cells} | {least} | {counts} |"


def _with_interval(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    whole = f"{found['mean']:+.1f}"
    return whole if found["low"] is None else f"{whole} ({found['low']:+.1f} to {found['high']:+.1f})"


def _mean(gains: Iterable[float]) -> str:
    found = list(gains)
    return f"{statistics.fmean(found):+.1f}" if found else ""


def _points(row: Row | None) -> str:
    return "" if row is None else f"{row['points']['mean']:.1f}"


def _gain(row: Row) -> str:
    gain = row["above_clip_score"]
    return f"{gain['mean']:+.1f} ({gain['low']:+.1f} to {gain['high']:+.1f})"


def _above_random(row: Row) -> str:
    return f"{row['above_random']['mean']:+.1f}"


if __name__ == "__main__":
    main()
