"""What a job's result looks like: the numbers behind every chart, and contact sheets. The page and the report show it.

All is counts or a few samples, so that the size is the same for every pool.
"""

from itertools import combinations
from typing import Any

import numpy as np
from pydantic import Field

from coreset.browsing.score_table import SELECTION, Look
from coreset.schemas.manifest import SUSPECTS
from coreset.schemas.sample import SampleView
from coreset.spec.base import Strict
from coreset.spec.scores import ESTIMATORS, SCORES, Score

BINS = 50
TAIL = 0.005
"""Share of the samples at each end that is put into the outermost bins."""

STEPS = 100
"""Numbers of kept samples for which cuts and overlaps are told: every hundredth of the pool, and the selection's k."""

SHEET = 24
"""Samples of a contact sheet."""

SUSPECTS_SHOWN = 60

SCALES = {"rank": "ranks", "zscore": "standardised scores", "raw": "raw scores"}


class Axis(Strict):
    """A score's bins: BINS of equal width from low to high; what lies outside is in the outermost ones."""

    low: float
    high: float


class Histogram(Strict):
    """Samples by bin of a score: all, and those of the selection."""

    axis: Axis
    counts: list[int]
    kept: list[int]


class Density(Strict):
    """Samples by bins of two scores: (bin of `across`, bin of `up`, samples) where there are any."""

    across: Score
    up: Score
    cells: list[tuple[int, int, int]]


class Sheet(Strict):
    """Samples to look at, in the order that the title says.

    Attributes:
        score: the one told below each.
        reasons: what is told instead, a line a sample, if that is more than one score.
    """

    name: str
    title: str
    score: Score
    samples: list[SampleView]
    reasons: list[str] = Field(default_factory=list[str])


class Ranking(Strict):
    name: str
    label: str
    meaning: str


class Summary(Strict):
    """The numbers behind a job's charts.

    Attributes:
        k: samples of the selection, each counted once.
        rankable: samples that have scores, before the selection's filters.
        looked: those that the charts are made of: all, or a uniform draw.
        ks: numbers of kept samples, ascending; cuts and overlaps have an entry for each.
        cuts: by score, its value for the last of its best k samples.
        overlaps: by pair of rankings, in the order of `rankings`, how many of the one's best k are in the other's.
        steps: of the checkpoints.
        files: where they are, by name.
    """

    job_id: str
    k: int
    rankable: int
    looked: int
    rankings: list[Ranking]
    ks: list[int]
    cuts: dict[Score, list[float]]
    overlaps: list[list[int]]
    histograms: dict[Score, Histogram]
    densities: list[Density]
    sheets: list[Sheet]
    steps: list[float] = Field(default_factory=list[float])
    files: dict[str, str] = Field(default_factory=dict)


def summarize(look: Look) -> Summary:
    """Return the summary of a job's selection, from its table."""
    k, rankable = look.selection.k - look.selection.repeated, round(look.rows / look.share)
    ks = sorted({max(1, round(rankable * step / STEPS)) for step in range(1, STEPS + 1)} | {k})
    axes = {score: _axis(look, score) for score in look.plan.scores}
    return Summary(
        job_id=look.selection.job_id,
        k=k,
        rankable=rankable,
        looked=look.rows,
        rankings=[_ranking(name, look) for name in look.rankings],
        ks=ks,
        cuts={score: _cuts(look, score, ks) for score in look.plan.scores},
        overlaps=_overlaps(look, ks),
        histograms={score: Histogram(axis=axis, **_counts(look, score, axis)) for score, axis in axes.items()},
        densities=_densities(look, axes),
        sheets=_suspects(look) + _sheets(look, k),
        steps=[checkpoint.step.value for checkpoint in look.plan.checkpoints],
        files=_files(look),
    )


def _files(look: Look) -> dict[str, str]:
    job, plan = f"jobs/{look.selection.job_id}", f"plans/{look.plan.id}"
    kept = {name: file.uri for name, file in look.selection.files.items() if not name.startswith("shards/")}
    others = {"manifest.json": f"{job}/manifest.json", "report.html": f"{job}/report.html", "parts": f"{plan}/parts"}
    return kept | {name: look.storage.uri(path) for name, path in others.items()}


def _ranking(name: str, look: Look) -> Ranking:
    if name != SELECTION:
        info = SCORES[Score(name)]
        return Ranking(name=name, label=info.label, meaning=info.meaning)
    by = look.selection.spec.by
    equal = len(set(by.values())) == 1
    label = " + ".join(("" if equal else f"{weight:g} ") + SCORES[score].label for score, weight in by.items())
    meaning = f"the job's own: {look.selection.spec.combine} of {SCALES[look.selection.spec.scale]}"
    return Ranking(name=name, label=label, meaning=meaning)


def _axis(look: Look, score: Score) -> Axis:
    low, high = look.query(f"SELECT quantile_cont({score.value}, [{TAIL}, {1 - TAIL}]) FROM looked")[0][0]
    return Axis(low=low, high=high) if high > low else Axis(low=low - 0.5, high=low + 0.5)


def bin_of(score: Score, axis: Axis) -> str:
    """Return SQL for a score's bin, 0 to BINS - 1."""
    share = f"({score.value} - ({axis.low!r})) / {axis.high - axis.low!r}"
    return f"least(greatest(floor({share} * {BINS}), 0), {BINS - 1})::INTEGER"


def _counts(look: Look, score: Score, axis: Axis) -> dict[str, list[int]]:
    found = look.query(f"SELECT {bin_of(score, axis)} AS b, count(*), count(*) FILTER (kept) FROM looked GROUP BY b")
    counts = {place: (count, kept) for place, count, kept in found}
    return {
        name: [counts.get(place, (0, 0))[which] for place in range(BINS)]
        for which, name in enumerate(("counts", "kept"))
    }


def _cuts(look: Look, score: Score, ks: list[int]) -> list[float]:
    values = np.sort(look.column(score.value))[::-1]
    return [float(values[look.position(k) - 1]) for k in ks]


def _overlaps(look: Look, ks: list[int]) -> list[list[int]]:
    """Return for each pair of rankings how many samples are in both best k: those whose worse place is k or better."""
    places = {name: look.column(f"place_{name}") for name in look.rankings}
    positions = np.array([look.position(k) for k in ks])
    found: list[list[int]] = []
    for one, other in combinations(look.rankings, 2):
        worse = np.bincount(np.maximum(places[one], places[other]), minlength=look.rows + 1)
        shared = np.cumsum(worse)[positions] / look.share
        found.append([min(k, round(float(count))) for k, count in zip(ks, shared, strict=True)])
    return found


def _densities(look: Look, axes: dict[Score, Axis]) -> list[Density]:
    """Return every score against CLIP score; against the first one if there is no CLIP score."""
    across = Score.CLIP_SCORE if Score.CLIP_SCORE in axes else next(iter(axes))
    others = [score for score in axes if score not in (across, Score.RANDOM)]
    return [Density(across=across, up=up, cells=_cells(look, across, up, axes)) for up in others]


def _cells(look: Look, across: Score, up: Score, axes: dict[Score, Axis]) -> list[Any]:
    bins = ", ".join(bin_of(score, axes[score]) for score in (across, up))
    return look.query(f"SELECT {bins}, count(*) FROM looked GROUP BY ALL ORDER BY ALL")


def _suspects(look: Look) -> list[Sheet]:
    """Return the most suspicious samples of a job that cleans, and how low each of the scores is that it looked at."""
    if SUSPECTS not in look.selection.files:
        return []
    by, order = list(look.selection.spec.by.items()), f"place_{SELECTION} DESC"
    places = ", ".join(f"place_{score.value}" for score, _ in by)
    rows = look.query(f"SELECT {places} FROM looked WHERE NOT kept ORDER BY {order} LIMIT {SUSPECTS_SHOWN}")
    return [
        Sheet(
            name="suspects",
            title="Suspects, the worst first",
            score=by[0][0],
            samples=look.samples("NOT kept", order, SUSPECTS_SHOWN),
            reasons=[_reason(by, row, look.rows) for row in rows],
        )
    ]


def _reason(by: list[tuple[Score, float]], places: tuple[int, ...], rows: int) -> str:
    told = [
        f"{SCORES[score].label}: {'lowest' if weight > 0 else 'highest'} {100 * share:.3g} %"
        for (score, weight), place in zip(by, places, strict=True)
        for share in [(rows - place + 1 if weight > 0 else place) / rows]
    ]
    return ", ".join(told)


def _sheets(look: Look, k: int) -> list[Sheet]:
    estimator = next((score for score in look.plan.scores if score in ESTIMATORS), None)
    others = [score for score in (Score.CLIP_SCORE, Score.NEG_CLIP_LOSS, Score.LOSS) if score in look.plan.scores]
    shown = ([estimator] if estimator else []) + others[:1]
    sheets = [sheet for score in shown for sheet in _extremes(look, score)]
    return _disagreements(look, k, shown[0], shown[1]) + sheets if len(shown) == 2 else sheets


def _extremes(look: Look, score: Score) -> list[Sheet]:
    label = SCORES[score].label
    return [
        Sheet(
            name=f"{way}_{score.value}",
            title=f"{title} {label}",
            score=score,
            samples=look.samples("true", order, SHEET),
        )
        for way, title, order in (
            ("highest", "Highest", f"place_{score.value}"),
            ("lowest", "Lowest", f"place_{score.value} DESC"),
        )
    ]


def _disagreements(look: Look, k: int, one: Score, other: Score) -> list[Sheet]:
    """Return the samples that one score keeps and the other drops, those with the most places between them first."""
    cut = look.position(k)
    return [
        Sheet(
            name=f"{keeps.value}_not_{drops.value}",
            title=f"Kept by {SCORES[keeps].label}, dropped by {SCORES[drops].label}",
            score=keeps,
            samples=look.samples(
                f"place_{keeps.value} <= {cut} AND place_{drops.value} > {cut}",
                f"place_{keeps.value} - place_{drops.value}, uid",
                SHEET,
            ),
        )
        for keeps, drops in ((one, other), (other, one))
    ]
