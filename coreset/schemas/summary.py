"""The summary of a job's result: the numbers behind every chart, and contact sheets.

Counts and a few samples only, so that its size does not depend on the pool's.
"""

from pydantic import Field

from coreset.schemas.horizon import Horizon
from coreset.schemas.sample import SampleView
from coreset.spec.base import FrozenModel
from coreset.spec.scores import Score

BINS = 50
"""Bins of a histogram."""


class Axis(FrozenModel):
    """Axis of a histogram: BINS bins of equal width from low to high; the outermost ones take values outside."""

    low: float
    high: float


class Histogram(FrozenModel):
    """Number of samples by bin of a score: all, and the selected ones."""

    axis: Axis
    counts: list[int]
    kept: list[int]


class Density(FrozenModel):
    """Number of samples by bins of two scores: (bin of `across`, bin of `up`, samples), empty bins left out."""

    across: Score
    up: Score
    cells: list[tuple[int, int, int]]


class Sheet(FrozenModel):
    """A contact sheet: samples in the order that the title names.

    Attributes:
        score: the score shown below each sample.
        reasons: a line per sample to show instead, if more than one score matters.
    """

    name: str
    title: str
    score: Score
    samples: list[SampleView]
    reasons: list[str] = Field(default_factory=list[str])


class Ranking(FrozenModel):
    name: str
    label: str
    meaning: str


class Summary(FrozenModel):
    """The numbers behind a job's charts.

    Attributes:
        k: number of selected samples, each counted once.
        rankable: number of samples with scores, before the selection's filters.
        looked: number of samples behind the charts: all, or a uniform draw.
        ks: numbers of selected samples, ascending; cuts and overlaps have an entry for each.
        cuts: by score, its value for the last of its best k samples.
        overlaps: by pair of rankings, in the order of `rankings`, the number of samples in both best k.
        steps: training steps of the checkpoints.
        horizon: the last checkpoint that influence uses, with the losses at every checkpoint.
        files: URIs of the files by name.
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
    horizon: Horizon | None = None
    files: dict[str, str] = Field(default_factory=dict)
