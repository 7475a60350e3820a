"""What an evaluation compares, and how. docs/evaluation.md shows it by examples."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, StringConstraints, field_validator

from coreset.spec.base import Strict
from coreset.spec.model import ModelSpec
from coreset.spec.pool import PoolSpec
from coreset.spec.proxies import LEARNING_RATE, SEEDS
from coreset.spec.scores import ESTIMATORS, Score
from coreset.spec.selection import Rule, Sampling

SELECTED, RANDOM, FULL = "selected", "random", "full"
"""Selections by name: the job's own rule, chance, and the whole pool, which is no rule and always there."""

BASELINES = (Score.CLIP_SCORE.value, RANDOM)
"""Those that every selection is compared with, seed by seed, where they are there."""

MOST_TRIALS = 512
"""Of one job: the queue looks at all of them whenever one has ended."""

ALIKE = 1000.0
"""A temperature at which all samples are drawn alike: values differ by 1 at most, chances by a thousandth."""

Name = Annotated[str, StringConstraints(pattern=r"^[\w+&./-]{1,64}$")]
Share = Annotated[float, Field(gt=0, le=1)]


class EvaluateSpec(Strict):
    """Train small models from scratch on rival selections, and measure them on held-out samples.

    Attributes:
        test: held-out samples, which must be none of the pool's. Where their captions are the names of classes,
            zero-shot accuracy is measured, else retrieval.
        fractions: shares of the pool to keep; each selection has exactly so many samples. Without it the share that
            the job's own selection has.
        seeds: proxies for each selection and share. A seed gives a proxy's weights, its order of samples and its
            augmentation, and a selection by chance is drawn anew for each.
        selections: rules by name. Without it: the job's own as `selected`, every score of the job alone, Diff-In with
            CLIP score mixed, each estimator intersected with CLIP score, and `random`.
        samples_seen: by each proxy, whatever it is trained on; without it five times the pool.
        batch_size: without it 128, or the smallest selection if that is less.
        lr: the highest learning rate of AdamW; a warm-up goes before it, a cosine follows.
        model: architecture of the proxies; without it a small ViT (coreset/spec/proxies.py).
    """

    test: PoolSpec
    fractions: list[Share] | None = Field(default=None, min_length=1, max_length=20, examples=[[0.1, 0.3, 0.5]])
    seeds: int = Field(default=SEEDS, ge=1, le=20)
    selections: dict[Name, Rule] | None = Field(
        default=None, min_length=1, max_length=64, examples=[{"clip_score": {"by": "clip_score"}}]
    )
    samples_seen: int | None = Field(default=None, ge=1, le=10**10)
    batch_size: int | None = Field(default=None, ge=2, le=65_536)
    lr: float = Field(default=LEARNING_RATE, gt=0, le=1)
    model: ModelSpec | None = None

    @field_validator("fractions")
    @classmethod
    def _each_once(cls, value: list[float] | None) -> list[float] | None:
        return None if value is None else sorted(set(value))

    @field_validator("selections")
    @classmethod
    def _not_full(cls, value: dict[str, Rule] | None) -> dict[str, Rule] | None:
        if value and FULL in value:
            raise ValueError(f"`{FULL}` is the whole pool, which is always there; take another name")
        return value

    def rules(self, own: Rule, scores: Sequence[Score]) -> dict[str, Rule]:
        """Return what is compared, by name.

        Args:
            own: the job's.
            scores: those that the job computes.
        """
        return self.selections if self.selections is not None else default_rules(own, scores)

    def number_of_trials(self, own: Rule, scores: Sequence[Score]) -> int:
        """Return how many proxies are trained at most: equal questions are asked once."""
        return (1 + len(self.rules(own, scores)) * len(self.fractions or [1])) * self.seeds


def default_rules(own: Rule, scores: Sequence[Score]) -> dict[str, Rule]:
    """Return the job's own rule and its rivals, as far as the job has computed their scores."""
    found = {SELECTED: own}
    found |= {score.value: Rule(by={score: 1.0}) for score in scores if score is not Score.RANDOM}
    if {Score.DIFFIN, Score.CLIP_SCORE} <= set(scores):
        found |= {"diffin+clip_score": Rule(by=_equal(Score.DIFFIN, Score.CLIP_SCORE))}
    if Score.CLIP_SCORE in scores:
        pairs = ((score, Score.CLIP_SCORE) for score in ESTIMATORS if score in scores)
        found |= {f"{one}&{other}": Rule(by=_equal(one, other), combine="intersection") for one, other in pairs}
    return found | {RANDOM: Rule(by={scores[0]: 1.0}, sampling=Sampling(temperature=ALIKE))}


def _equal(*scores: Score) -> dict[Score, float]:
    return dict.fromkeys(scores, 1.0)


def of_seed(rule: Rule, seed: int) -> Rule:
    """Return the rule as one seed has it: what is drawn by chance is drawn anew for each."""
    if rule.sampling is None:
        return rule
    drawn = rule.sampling.model_copy(update={"seed": rule.sampling.seed + seed})
    return rule.model_copy(update={"sampling": drawn})
