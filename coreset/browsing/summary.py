"""Computation of a job's summary (coreset.schemas.summary) from its score table."""

from itertools import combinations
from typing import Any

import numpy as np

from coreset.browsing.score_table import SELECTION, ScoreTable
from coreset.schemas.horizon import Horizon
from coreset.schemas.manifest import SUSPECTS
from coreset.schemas.summary import BINS, Axis, Density, Histogram, Ranking, Sheet, Summary
from coreset.spec.scores import ESTIMATORS, SCORES, Score
from coreset.storage.layout import JobFolder, PlanFolder

TAIL = 0.005
"""Share of the samples at each end that the outermost bins take."""

STEPS = 100
"""Number of cuts with values and overlaps: every hundredth of the pool, besides the selection's k."""

SHEET = 24
"""Samples of a contact sheet."""

SUSPECTS_SHOWN = 60
"""Suspects of a contact sheet."""

SCALES = {"rank": "ranks", "zscore": "standardised scores", "raw": "raw scores"}


def summarize(table: ScoreTable, horizon: Horizon | None = None) -> Summary:
    """Return the summary of a job's selection, from its table; the horizon is passed on."""
    k, rankable = table.selection.k - table.selection.repeated, round(table.rows / table.share)
    ks = sorted({max(1, round(rankable * step / STEPS)) for step in range(1, STEPS + 1)} | {k})
    axes = {score: _axis(table, score) for score in table.plan.scores}
    return Summary(
        job_id=table.selection.job_id,
        k=k,
        rankable=rankable,
        looked=table.rows,
        rankings=[_ranking(name, table) for name in table.rankings],
        ks=ks,
        cuts={score: _cuts(table, score, ks) for score in table.plan.scores},
        overlaps=_overlaps(table, ks),
        histograms={score: Histogram(axis=axis, **_counts(table, score, axis)) for score, axis in axes.items()},
        densities=_densities(table, axes),
        sheets=_suspects(table) + _sheets(table, k),
        steps=[checkpoint.step.value for checkpoint in table.plan.checkpoints],
        horizon=horizon,
        files=_files(table),
    )


def _files(table: ScoreTable) -> dict[str, str]:
    job, plan = JobFolder(table.selection.job_id), PlanFolder(table.plan.id)
    subset = {name: file.uri for name, file in table.selection.files.items() if not name.startswith("shards/")}
    others = {"manifest.json": job.manifest, "report.html": job.report, "parts": plan.parts}
    return subset | {name: table.storage.uri(path) for name, path in others.items()}


def _ranking(name: str, table: ScoreTable) -> Ranking:
    if name != SELECTION:
        info = SCORES[Score(name)]
        return Ranking(name=name, label=info.label, meaning=info.meaning)
    by = table.selection.spec.by
    equal = len(set(by.values())) == 1
    label = " + ".join(("" if equal else f"{weight:g} ") + SCORES[score].label for score, weight in by.items())
    meaning = f"the job's own: {table.selection.spec.combine} of {SCALES[table.selection.spec.scale]}"
    return Ranking(name=name, label=label, meaning=meaning)


def _axis(table: ScoreTable, score: Score) -> Axis:
    low, high = table.query(f"SELECT quantile_cont({score.value}, [{TAIL}, {1 - TAIL}]) FROM score_table")[0][0]
    return Axis(low=low, high=high) if high > low else Axis(low=low - 0.5, high=low + 0.5)


def bin_of(score: Score, axis: Axis) -> str:
    """Return SQL for a score's bin, 0 to BINS - 1."""
    share = f"({score.value} - ({axis.low!r})) / {axis.high - axis.low!r}"
    return f"least(greatest(floor({share} * {BINS}), 0), {BINS - 1})::INTEGER"


def _counts(table: ScoreTable, score: Score, axis: Axis) -> dict[str, list[int]]:
    found = table.query(
        f"SELECT {bin_of(score, axis)} AS b, count(*), count(*) FILTER (kept) FROM score_table GROUP BY b"
    )
    counts = {place: (count, kept) for place, count, kept in found}
    return {
        name: [counts.get(place, (0, 0))[which] for place in range(BINS)]
        for which, name in enumerate(("counts", "kept"))
    }


def _cuts(table: ScoreTable, score: Score, ks: list[int]) -> list[float]:
    values = np.sort(table.column(score.value))[::-1]
    return [float(values[table.position(k) - 1]) for k in ks]


def _overlaps(table: ScoreTable, ks: list[int]) -> list[list[int]]:
    """Return for each pair of rankings the number of samples in both best k: those whose worse place is at most k."""
    places = {name: table.column(f"place_{name}") for name in table.rankings}
    positions = np.array([table.position(k) for k in ks])
    found: list[list[int]] = []
    for one, other in combinations(table.rankings, 2):
        worse = np.bincount(np.maximum(places[one], places[other]), minlength=table.rows + 1)
        shared = np.cumsum(worse)[positions] / table.share
        found.append([min(k, round(float(count))) for k, count in zip(ks, shared, strict=True)])
    return found


def _densities(table: ScoreTable, axes: dict[Score, Axis]) -> list[Density]:
    """Return the density of every score against CLIP score, or against the first score if there is no CLIP score."""
    across = Score.CLIP_SCORE if Score.CLIP_SCORE in axes else next(iter(axes))
    others = [score for score in axes if score not in (across, Score.RANDOM)]
    return [Density(across=across, up=up, cells=_cells(table, across, up, axes)) for up in others]


def _cells(table: ScoreTable, across: Score, up: Score, axes: dict[Score, Axis]) -> list[Any]:
    bins = ", ".join(bin_of(score, axes[score]) for score in (across, up))
    return table.query(f"SELECT {bins}, count(*) FROM score_table GROUP BY ALL ORDER BY ALL")


def _suspects(table: ScoreTable) -> list[Sheet]:
    """Return the most suspicious samples of a job that cleans, each with the ranks of the scores behind its rank."""
    if SUSPECTS not in table.selection.files:
        return []
    by, order = list(table.selection.spec.by.items()), f"place_{SELECTION} DESC"
    places = ", ".join(f"place_{score.value}" for score, _ in by)
    rows = table.query(f"SELECT {places} FROM score_table WHERE NOT kept ORDER BY {order} LIMIT {SUSPECTS_SHOWN}")
    return [
        Sheet(
            name="suspects",
            title="Suspects, the worst first",
            score=by[0][0],
            samples=table.samples("NOT kept", order, SUSPECTS_SHOWN),
            reasons=[_reason(by, row, table.rows) for row in rows],
        )
    ]


def _reason(by: list[tuple[Score, float]], places: tuple[int, ...], rows: int) -> str:
    ranks = [
        f"{SCORES[score].label}: {'lowest' if weight > 0 else 'highest'} {100 * share:.3g} %"
        for (score, weight), place in zip(by, places, strict=True)
        for share in [(rows - place + 1 if weight > 0 else place) / rows]
    ]
    return ", ".join(ranks)


def _sheets(table: ScoreTable, k: int) -> list[Sheet]:
    estimator = next((score for score in table.plan.scores if score in ESTIMATORS), None)
    others = [score for score in (Score.CLIP_SCORE, Score.NEG_CLIP_LOSS, Score.LOSS) if score in table.plan.scores]
    shown = ([estimator] if estimator else []) + others[:1]
    sheets = [sheet for score in shown for sheet in _extremes(table, score)]
    return _disagreements(table, k, shown[0], shown[1]) + sheets if len(shown) == 2 else sheets


def _extremes(table: ScoreTable, score: Score) -> list[Sheet]:
    label = SCORES[score].label
    return [
        Sheet(
            name=f"{way}_{score.value}",
            title=f"{title} {label}",
            score=score,
            samples=table.samples("true", order, SHEET),
        )
        for way, title, order in (
            ("highest", "Highest", f"place_{score.value}"),
            ("lowest", "Lowest", f"place_{score.value} DESC"),
        )
    ]


def _disagreements(table: ScoreTable, k: int, one: Score, other: Score) -> list[Sheet]:
    """Return the samples that one score keeps and the other drops, the largest difference of places first."""
    cut = table.position(k)
    return [
        Sheet(
            name=f"{keeps.value}_not_{drops.value}",
            title=f"Kept by {SCORES[keeps].label}, dropped by {SCORES[drops].label}",
            score=keeps,
            samples=table.samples(
                f"place_{keeps.value} <= {cut} AND place_{drops.value} > {cut}",
                f"place_{keeps.value} - place_{drops.value}, uid",
                SHEET,
            ),
        )
        for keeps, drops in ((one, other), (other, one))
    ]
