"""Evaluation of selections by proxies trained on them and tested on held-out samples (docs/evaluation.md)."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from coreset.schemas.intervals import Interval
from coreset.schemas.plan import PlannedModel
from coreset.spec.base import FrozenModel
from coreset.spec.selection import Rule

Measured = Literal["accuracy", "recall"]


class Quality(FrozenModel):
    """Test results of one proxy.

    Attributes:
        accuracy: zero-shot accuracy if the test's captions are classes, else None.
        image_to_text, text_to_image: R@k by k.
    """

    accuracy: float | None
    image_to_text: dict[int, float]
    text_to_image: dict[int, float]

    @property
    def points(self) -> float:
        """The result as one number in percent: accuracy, or the mean of the six recalls."""
        if self.accuracy is not None:
            return 100 * self.accuracy
        recalls = [*self.image_to_text.values(), *self.text_to_image.values()]
        return 100 * sum(recalls) / len(recalls)


class Cut(FrozenModel):
    """A selection at one size.

    Attributes:
        selection: its name.
        fraction: share of the pool that was asked for.
        k: number of samples; repeated ones count each time.
    """

    selection: str
    fraction: float
    k: int


class TrialOutcome(FrozenModel):
    """Outcome of one trial.

    Attributes:
        tested: number of samples of the test.
        known: number of samples that were left out of the test because the pool has them too.
        seconds: time of its training and its test.
    """

    quality: Quality
    tested: int
    known: int
    seconds: float
    device: str


class SeedQuality(FrozenModel):
    """One proxy of a cut.

    Attributes:
        points: the result as one number in percent (`Evaluation.measured`).
    """

    seed: int
    points: float
    quality: Quality


class EvaluatedCut(Cut):
    """Results of the proxies that were trained on a cut.

    Attributes:
        proxies: in the order of their seeds.
        points: their mean and its interval; null if none was trained.
        against: by name of another selection, the difference to it at equal size and seed, if both were trained.
    """

    proxies: list[SeedQuality]
    points: Interval | None
    against: dict[str, Interval] = Field(default_factory=dict[str, Interval])


class FailedTrial(FrozenModel):
    """A proxy that was not trained."""

    selection: str
    fraction: float
    seed: int
    message: str


class Evaluation(FrozenModel):
    """The quality of a job's selections, measured by training on them.

    Attributes:
        measured: `accuracy`: zero-shot accuracy, if the test's captions are the names of classes. `recall`: the mean of
            R@1, R@5 and R@10 of image to text and of text to image. Null if no proxy was trained.
        rules: the rules compared, by name; `full` is the whole pool.
        cuts: each selection at each size.
        seeds: number of proxies per cut.
        samples_seen: number of samples that each proxy is trained on.
        test_samples: number of samples that proxies were tested on.
        test_samples_in_pool: number of samples that were left out of the test because the pool has them too.
        seconds: time of training and testing over all workers; reused trials count with their original time.
    """

    object: Literal["evaluation"] = "evaluation"
    job_id: str
    plan_id: str
    measured: Measured | None
    confidence: str = "95 %, Student's t over the seeds: it shows how much another seed changes, not another test"
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
