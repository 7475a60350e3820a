"""report.html: one self-contained file that shows a job's scores, Diff-In beside CLIP score, and what was measured.

All charts are drawn from counts that DuckDB makes, so that the file has the same size for every pool.
"""

from pathlib import Path

import duckdb
import numpy as np
import plotly.graph_objects as go
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from coreset.compare import DIFFIN_WITH_CLIP_SCORE
from coreset.plan import Plan
from coreset.ranking import open_samples
from coreset.result import File, Manifest
from coreset.scores import SCORES, Score
from coreset.storage import Storage

BINS = 60
TAIL = 0.005
"""Share of the samples at each end that is put into the outermost bins."""

LABELS = {score.value: info.label for score, info in SCORES.items()} | {
    DIFFIN_WITH_CLIP_SCORE: "Diff-In + CLIP score, ranks"
}
_environment = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")), autoescape=True, undefined=StrictUndefined
)


def write_report(storage: Storage, plan: Plan, manifest: Manifest) -> File:
    """Write jobs/{id}/report.html."""
    with open_samples(storage, plan) as db:
        charts = [_html(figure) for figure in _figures(db, plan, manifest.selection.k)]
    page = _environment.get_template("report.html").render(
        manifest=manifest, labels=LABELS, scores=SCORES, charts=charts, plotly=get_plotlyjs()
    )
    return storage.write(f"jobs/{manifest.job_id}/report.html", page.encode())


def _figures(db: duckdb.DuckDBPyConnection, plan: Plan, k: int) -> list[go.Figure]:
    cuts = {score: _cut(db, score, k) for score in plan.scores}
    shown = [score for score in plan.scores if score is not Score.RANDOM]
    figures = [_histogram(db, score, cuts[score]) for score in shown]
    if Score.CLIP_SCORE in plan.scores:
        others = [score for score in (Score.DIFFIN, Score.TRACIN, Score.NEG_CLIP_LOSS) if score in plan.scores]
        figures = [_density(db, Score.CLIP_SCORE, other, cuts) for other in others[:1]] + figures
    return figures


def _cut(db: duckdb.DuckDBPyConnection, score: Score, k: int) -> float:
    """Return the score of the last of its top k samples."""
    row = db.execute(
        f"SELECT min(v) FROM (SELECT {score.value} AS v FROM samples ORDER BY v DESC LIMIT {k})"
    ).fetchone()
    assert row is not None
    return float(row[0])


def _range(db: duckdb.DuckDBPyConnection, score: Score) -> tuple[float, float]:
    row = db.execute(f"SELECT quantile_cont({score.value}, [{TAIL}, {1 - TAIL}]) FROM samples").fetchone()
    assert row is not None
    low, high = row[0]
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _bin(score: Score, low: float, high: float) -> str:
    """Return SQL for the bin of a score, 0 to BINS - 1; what lies outside goes into the outermost ones."""
    share = f"({score.value} - ({low!r})) / {high - low!r}"
    return f"least(greatest(floor({share} * {BINS}), 0), {BINS - 1})::INTEGER"


def _centres(low: float, high: float) -> np.ndarray:
    return low + (np.arange(BINS) + 0.5) * (high - low) / BINS


def _histogram(db: duckdb.DuckDBPyConnection, score: Score, cut: float) -> go.Figure:
    low, high = _range(db, score)
    counts = np.zeros(BINS, dtype=np.int64)
    for place, count in db.execute(
        f"SELECT {_bin(score, low, high)} AS b, count(*) FROM samples GROUP BY b"
    ).fetchall():
        counts[place] = count
    figure = go.Figure(go.Bar(x=_centres(low, high), y=counts, marker_color="#4c6ef5", hovertemplate="%{x:.4g}: %{y}"))
    figure.add_vline(cut, line_dash="dash", line_color="#e8590c", annotation_text="kept →")
    figure.update_layout(title=LABELS[score.value], xaxis_title=score.value, yaxis_title="samples", bargap=0.02)
    return figure


def _density(db: duckdb.DuckDBPyConnection, across: Score, up: Score, cuts: dict[Score, float]) -> go.Figure:
    ranges = {score: _range(db, score) for score in (across, up)}
    counts = np.zeros((BINS, BINS))
    query = (
        f"SELECT {_bin(across, *ranges[across])} AS x, {_bin(up, *ranges[up])} AS y, count(*) FROM samples GROUP BY ALL"
    )
    for x, y, count in db.execute(query).fetchall():
        counts[y, x] = count
    heat = go.Heatmap(
        x=_centres(*ranges[across]),
        y=_centres(*ranges[up]),
        z=np.where(counts > 0, np.log10(np.maximum(counts, 1)), np.nan),
        customdata=counts,
        hovertemplate="%{customdata} samples<extra></extra>",
        colorscale="Viridis",
        colorbar={"title": "log₁₀ samples"},
    )
    figure = go.Figure(heat)
    figure.add_vline(
        cuts[across], line_dash="dash", line_color="#e8590c", annotation_text=f"{LABELS[across.value]} keeps →"
    )
    figure.add_hline(cuts[up], line_dash="dash", line_color="#e8590c", annotation_text=f"{LABELS[up.value]} keeps ↑")
    figure.update_layout(
        title=f"{LABELS[up.value]} against {LABELS[across.value]}: the lines are the cuts at this k",
        xaxis_title=across.value,
        yaxis_title=up.value,
    )
    return figure


def _html(figure: go.Figure) -> str:
    figure.update_layout(template="plotly_white", height=380, margin={"l": 60, "r": 20, "t": 50, "b": 50})
    return figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False, "responsive": True})
