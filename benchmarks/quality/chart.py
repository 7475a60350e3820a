"""`python -m benchmarks.quality.chart JSON SVG`: quality over the share that is kept, a panel a pool."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.plots import STYLE
from benchmarks.quality.rules import CLIP_SCORE, DEFAULT, FULL, RANDOM
from benchmarks.quality.table import Row

COLOURS = {DEFAULT: "#0072B2", CLIP_SCORE: "#D55E00", RANDOM: "#777777"}
COLUMNS = 4


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.chart", description=__doc__)
    parser.add_argument("json", type=Path)
    parser.add_argument("svg", type=Path)
    options = parser.parse_args()
    with matplotlib.rc_context(STYLE):
        draw(json.loads(options.json.read_text())["rows"]).savefig(options.svg, metadata={"Date": None})


def draw(rows: Sequence[Row]) -> Figure:
    """Return the figure: means and 95 % intervals over the seeds; dashed, the full pool."""
    pools = list(dict.fromkeys(row["pool"] for row in rows))
    lines = -(-len(pools) // COLUMNS)
    figure = Figure(figsize=(2.6 * COLUMNS, 2.1 * lines), layout="constrained")
    panels = figure.subplots(lines, COLUMNS, squeeze=False).flatten().tolist()
    for axes, pool in zip(panels, pools, strict=False):
        _panel(axes, pool, [row for row in rows if row["pool"] == pool])
    for axes in panels[len(pools) :]:
        axes.set_axis_off()
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4)
    return figure


def _panel(axes: Axes, pool: str, rows: Sequence[Row]) -> None:
    for rule, colour in COLOURS.items():
        found = sorted((row["fraction"], row["points"]) for row in rows if row["rule"] == rule)
        means = [points["mean"] for _, points in found]
        reach = [0 if points["high"] is None else points["high"] - points["mean"] for _, points in found]
        shares = [100 * fraction for fraction, _ in found]
        axes.errorbar(shares, means, reach, color=colour, label=rule, marker="o", markersize=3, capsize=2, linewidth=1)
    for row in rows:
        if row["rule"] == FULL:
            axes.axhline(row["points"]["mean"], color="#000000", linestyle="--", linewidth=0.8, label=FULL)
    accuracy = rows[0]["proxies"][0]["accuracy"] is not None
    axes.set_title(pool.replace("_", ", "))
    axes.set_ylabel("accuracy, %" if accuracy else "mean recall, %")
    axes.set_xticks([10, 30, 50, 70], ["10 %", "30 %", "50 %", "70 %"])
    axes.set_ylim(bottom=0)


if __name__ == "__main__":
    main()
