"""`python -m benchmarks.plots JSON FOLDER`: figures from what `benchmarks.sensitivity` wrote (docs/sensitivity.md)."""

import argparse
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Parts = dict[str, Any]

COLOURS = {"diffin": "#0072B2", "tracin": "#009E73", "diffin_eq9": "#D55E00", "first_order": "#777777"}
ESTIMATORS = ("diffin", "tracin", "diffin_eq9")
LINES = ("#0072B2", "#E69F00", "#CC79A7", "#009E73")
WORDS = {
    "towers_adam": "two towers, Adam",
    "towers_sgd": "two towers, SGD",
    "towers_restarts": "two towers, restarts",
    "digits_sgd": "digits, SGD",
    "digits_restarts": "digits, restarts",
    "first_order": "the truth's first-order part",
    "diffin_eq9": "diffin_eq9, literal sign",
    "curve": "tracin, diffin_eq9: curve (V = training)",
    "mixed": "tracin, diffin_eq9: mixed (V = validation)",
}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "coreset",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.grid": True,
} | {
    "axes.grid.axis": "y",
    "grid.alpha": 0.3,
    "legend.frameon": False,
}
STABLE = 2.0
"""Above this learning rate times curvature a full-batch step on a quadratic overshoots by more than it corrects."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plots", description=__doc__)
    parser.add_argument("json", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    draw(json.loads(options.json.read_text())["parts"], options.folder)


def draw(parts: Parts, folder: Path, kind: str = "svg") -> list[Path]:
    """Write every figure that the parts have the figures for, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    with matplotlib.rc_context(STYLE):
        for name, figure in FIGURES.items():
            drawn = figure(parts)
            if drawn is not None:
                paths.append(folder / f"{name}.{kind}")
                drawn.savefig(paths[-1], metadata={"Date": None} if kind == "svg" else None)
    return paths


def label(part: dict[str, Any]) -> str:
    return f"{WORDS[part['family']]}, rate {part['training']['rate']:g}"


def by_value(parts: Parts, name: str, xlabel: str) -> Figure | None:
    """Draw the three estimators over one field of `Choice`, a panel for each training."""
    swept = [part for part in parts.values() if part.get("sweeps", {}).get(name)]
    if not swept:
        return None
    columns = min(4, len(swept))
    rows = -(-len(swept) // columns)
    figure = Figure(figsize=(2.7 * columns, 2.5 * rows + 0.5), layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).flat
    for axes, part in zip(panels, swept, strict=False):
        points = part["sweeps"][name]
        for estimator in ESTIMATORS:
            curve(axes, [(point["value"], point[estimator]) for point in points], COLOURS[estimator], estimator)
        _values(axes, [point["value"] for point in points])
        axes.set(title=label(part), xlabel=xlabel)
        agreement_axis(axes)
    for axes in figure.axes[len(swept) :]:
        axes.remove()
    _legend(figure)
    return figure


def adjoint(parts: Parts) -> Figure | None:
    """Draw `diffin` over the Lanczos steps and over the minibatches a segment, a line for each training."""
    names = {"lanczos_steps": "Lanczos steps for each minibatch", "pieces": "minibatches for each segment"}
    swept = [part for part in parts.values() if part.get("sweeps", {}).get("pieces")]
    if not swept:
        return None
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    for axes, (name, xlabel) in zip(figure.subplots(1, 2, sharey=True), names.items(), strict=True):
        for part, colour in zip(swept, LINES, strict=False):
            points = part["sweeps"][name]
            curve(axes, [(point["value"], point["diffin"]) for point in points], colour, label(part))
        _values(axes, [point["value"] for point in swept[0]["sweeps"][name]])
        axes.set(xlabel=xlabel)
        axes.set_ylabel("Pearson of diffin with retraining" if name == "lanczos_steps" else "")
    _legend(figure)
    return figure


def erratic(parts: Parts) -> Figure | None:
    """Draw the estimators over the learning rate; below, how rough the training was."""
    families = [f for f in ("towers", "digits") if any(p.get("family") == f"{f}_sgd" for p in parts.values())]
    if not families:
        return None
    figure = Figure(figsize=(4.3 * len(families), 5.6), layout="constrained")
    panels = figure.subplots(2, len(families), sharex="col", sharey="row", squeeze=False, height_ratios=(3, 1.4))
    for (upper, lower), family in zip(panels.T, families, strict=True):
        steady, restarted = (
            sorted(
                (p for p in parts.values() if p.get("family") == f"{family}_{kind}"),
                key=lambda p: p["training"]["rate"],
            )
            for kind in ("sgd", "restarts")
        )
        for name in (*ESTIMATORS, "first_order"):
            curve(upper, _over_rates(steady, name), COLOURS[name], name)
            for rate, found in _over_rates(restarted, name):
                _restarted(upper, rate * 1.12, found, COLOURS[name])
        upper.set_title(WORDS[f"{family}_sgd"])
        agreement_axis(upper)
        _roughness(lower, steady, restarted)
    _legend(figure)
    return figure


def _over_rates(cases: list[dict[str, Any]], name: str) -> list[tuple[float, Any]]:
    return [(case["training"]["rate"], case["agreement"][name]) for case in cases]


def _restarted(axes: Axes, rate: float, found: dict[str, Any] | None, colour: str) -> None:
    """Mark a training with restarts by a diamond, moved a little to the right."""
    if found is not None:
        axes.vlines(rate, *found["pearson_95"], color=colour, linewidth=1)
        axes.plot(rate, found["pearson"], "D", color=colour, markerfacecolor="white", markersize=5)


def _roughness(axes: Axes, steady: list[dict[str, Any]], restarted: list[dict[str, Any]]) -> None:
    largest = lambda case: max(max(seed["rate_times_curvature"]) for seed in case["watched"])  # noqa: E731
    axes.plot([case["training"]["rate"] for case in steady], [largest(case) for case in steady], "o-", color="black")
    for case in restarted:
        rate = case["training"]["rate"] * 1.12
        axes.plot(rate, largest(case), "D", color="black", markerfacecolor="white", label="with 4 restarts")
    axes.axhline(STABLE, color="#777777", linestyle="--", linewidth=1)
    rates = [case["training"]["rate"] for case in steady]
    axes.set(xlabel="highest learning rate", yscale="log")
    axes.set_yticks([0.3, 1, 3, 10, 30], ["0.3", "1", "3", "10", "30"])
    axes.set_yticks([], minor=True)
    axes.set_ylabel("largest rate\ntimes curvature")
    _values(axes, rates)


def steps(parts: Parts) -> Figure | None:
    """Draw each difference's error over its step, a panel for each difference and checkpoint."""
    if "steps" not in parts:
        return None
    found = parts["steps"]["differences"]
    panels = {"diffin": "V = training", "curve": "V = training", "mixed": "V = validation"}
    figure = Figure(figsize=(10.5, 5.6), layout="constrained")
    grid = figure.subplots(2, 3, sharey=True)
    for row, words in zip(grid, ("first", "last"), strict=True):
        for axes, (difference, trained) in zip(row, panels.items(), strict=True):
            checkpoint = found[trained][0 if words == "first" else -1]
            _errors(axes, checkpoint[difference])
            axes.set_title(f"{WORDS.get(difference, 'diffin: first difference')}\n{words} checkpoint")
        row[0].set_ylabel("relative error")
    for axes in grid[-1]:
        axes.set_xlabel("how far a step moves theta, relative to |theta|")
    _legend(figure)
    return figure


def _errors(axes: Axes, difference: dict[str, Any]) -> None:
    """Draw the errors in both precisions, and the steps that the calibration chose."""
    for precision, line in (("float32", "-"), ("float64", ":")):
        rows = difference[precision]["errors"]
        for name in (name for name in ESTIMATORS if name in rows[0]):
            known = [(row["move"], row[name]) for row in rows if row[name] is not None]
            axes.plot(*zip(*known, strict=True), line, color=COLOURS[name], label=f"{name}, {precision}")
        chosen = difference[precision]["chosen"]
        axes.plot(chosen["move"], chosen["error"], "*", color="black", label="the step that calibration chose")
        axes.axvline(chosen["move"], color="black", linewidth=0.8, linestyle=line)
    axes.set(xscale="log", yscale="log", ylim=(1e-11, 1e4))
    axes.minorticks_off()


def curve(axes: Axes, points: Iterable[tuple[float, dict[str, Any] | None]], colour: str, name: str) -> None:
    """Draw the mean correlation over the seeds as a line, its interval as a band, and each seed as a dot."""
    known = [(x, found) for x, found in points if found is not None]
    if not known:
        return
    x = [value for value, _ in known]
    low, high = ([found["pearson_95"][end] for _, found in known] for end in (0, 1))
    axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
    style = "--" if name == "first_order" else "-"
    axes.plot(x, [f["pearson"] for _, f in known], style, color=colour, label=WORDS.get(name, name))
    seeds = [(value, seed) for value, found in known for seed in found["pearson_by_seed"]]
    axes.plot(*zip(*seeds, strict=True), ".", color=colour, markersize=4)


def agreement_axis(axes: Axes) -> None:
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_ylim(-1.05, 1.05)
    if axes.get_subplotspec().is_first_col():  # type: ignore[union-attr]
        axes.set_ylabel("Pearson with retraining")


def _values(axes: Axes, values: list[float]) -> None:
    """Let the axis be logarithmic, with ticks at the values themselves."""
    axes.set_xscale("log")
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.set_xticks([], minor=True)


def _legend(figure: Figure) -> None:
    known = {
        text: handle for axes in figure.axes for handle, text in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        known.values(), known.keys(), loc="outside lower center", ncols=min(4, int(figure.get_figwidth() / 2.1))
    )


FIGURES: dict[str, Callable[[Parts], Figure | None]] = {
    "checkpoints": lambda parts: by_value(parts, "checkpoints", "checkpoints m"),
    "reference_size": lambda parts: by_value(parts, "size", "samples of B"),
    "adjoint": adjoint,
    "erratic": erratic,
    "steps": steps,
}


if __name__ == "__main__":
    main()
