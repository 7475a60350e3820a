"""What a selection is worth: proxies trained on it from scratch, tested on held-out samples (docs/evaluation.md)."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from pydantic import Field

from coreset.schemas.intervals import Interval, interval
from coreset.schemas.plan import PlannedModel
from coreset.spec.base import Strict
from coreset.spec.evaluation import BASELINES
from coreset.spec.selection import Rule

Measured = Literal["accuracy", "recall"]


class Quality(Strict):
    """What one proxy can do.

    Attributes:
        accuracy: zero-shot, where the test's captions are classes; else None.
        image_to_text, text_to_image: R@k by k.
    """

    accuracy: float | None
    image_to_text: dict[int, float]
    text_to_image: dict[int, float]

    @property
    def points(self) -> float:
        """The one number of it, in percent: accuracy, or the mean of the six recalls."""
        if self.accuracy is not None:
            return 100 * self.accuracy
        recalls = [*self.image_to_text.values(), *self.text_to_image.values()]
        return 100 * sum(recalls) / len(recalls)


class Cut(Strict):
    """A selection at one size.

    Attributes:
        selection: its name.
        fraction: of the pool, as it was asked for.
        k: samples that it keeps; those that a draw repeats count each time.
    """

    selection: str
    fraction: float
    k: int


class TrialOutcome(Strict):
    """What became of one proxy.

    Attributes:
        tested: samples of the test.
        known: samples of the test that are in the pool too, and were left out of the test.
        seconds: of its training and its test.
    """

    quality: Quality
    tested: int
    known: int
    seconds: float
    device: str


class SeedQuality(Strict):
    """One proxy of a cut.

    Attributes:
        points: in per cent, what `measured` says.
    """

    seed: int
    points: float
    quality: Quality


class EvaluatedCut(Cut):
    """What proxies trained on a cut can do.

    Attributes:
        proxies: by seed, those that were trained.
        points: their mean and its interval; null where none was trained.
        against: by name of another selection, the points above it at the same size and seed, where both were trained.
    """

    proxies: list[SeedQuality]
    points: Interval | None
    against: dict[str, Interval] = Field(default_factory=dict[str, Interval])


class FailedTrial(Strict):
    """A proxy that was not trained."""

    selection: str
    fraction: float
    seed: int
    message: str


class Evaluation(Strict):
    """What a job's selections are worth, measured by training on them.

    Attributes:
        measured: `accuracy`: zero-shot accuracy, the test's captions being the names of classes. `recall`: the mean of
            R@1, R@5 and R@10 of image to text and of text to image. Null where no proxy was trained.
        rules: what was compared, by name; `full` is the whole pool.
        cuts: each selection at each size.
        seeds: proxies of each cut.
        samples_seen: by each proxy.
        test_samples: those that proxies were tested on.
        test_samples_in_pool: those of the test that were left out, since the pool has them too.
        seconds: of training and testing, over all workers; trials that were done before count with their time then.
    """

    object: Literal["evaluation"] = "evaluation"
    job_id: str
    plan_id: str
    measured: Measured | None
    confidence: str = "95 %, Student's t over the seeds: it tells how much another seed changes, not another test"
    rules: dict[str, Rule]
    cuts: list[EvaluatedCut]
    seeds: int
    samples_seen: int
    batch_size: int
    lr: float
    model: PlannedModel
    pool_samples: int
    test_samples: int
    test_samples_in_pool: int
    failed: list[FailedTrial]
    warnings: list[str] = Field(default_factory=list[str])
    seconds: float
    devices: list[str]
    created_at: datetime


def evaluate_cuts(cuts: list[Cut], found: Mapping[tuple[Cut, int], TrialOutcome]) -> list[EvaluatedCut]:
    """Return what the proxies of each cut can do, and how far above the baselines of the same size they are.

    Args:
        found: the outcomes by cut and seed.
    """
    by_cut: dict[Cut, dict[int, float]] = {cut: {} for cut in cuts}
    for (cut, seed), outcome in found.items():
        by_cut[cut][seed] = outcome.quality.points
    return [
        EvaluatedCut(
            selection=cut.selection,
            fraction=cut.fraction,
            k=cut.k,
            proxies=[
                SeedQuality(seed=seed, points=points, quality=found[cut, seed].quality)
                for seed, points in sorted(by_cut[cut].items())
            ],
            points=_interval(list(by_cut[cut].values())),
            against=_against(cut, by_cut),
        )
        for cut in cuts
    ]


def _against(cut: Cut, by_cut: Mapping[Cut, dict[int, float]]) -> dict[str, Interval]:
    found: dict[str, Interval] = {}
    for other, points in by_cut.items():
        if other.selection not in BASELINES or other.selection == cut.selection or other.k != cut.k:
            continue
        both = sorted(points.keys() & by_cut[cut].keys())
        difference = _interval([by_cut[cut][seed] - points[seed] for seed in both])
        if difference is not None:
            found[other.selection] = difference
    return found


def _interval(values: list[float]) -> Interval | None:
    return interval(values) if values else None
