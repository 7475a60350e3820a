"""The spec of an evaluation: selections to compare by training on them. docs/evaluation.md has examples."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, StringConstraints, field_validator

from coreset.spec.base import FrozenModel
from coreset.spec.equal_rules import canonical
from coreset.spec.model import ModelSpec
from coreset.spec.pool import PoolSpec
from coreset.spec.proxies import LEARNING_RATE, SEEDS
from coreset.spec.scores import ESTIMATORS, Score
from coreset.spec.selection import RECIPES, Rule, Sampling

SELECTED, RANDOM, FULL = "selected", "random", "full"
"""Names of selections: the job's own rule, a random one, and the whole pool, which is always compared."""

BASELINES = (Score.CLIP_SCORE.value, RANDOM)
"""Selections that every other one is compared with, seed by seed, if the evaluation has them."""

MAX_TRIALS = 512
"""Largest number of trials of one job: RQ reads the states of all of them whenever one has ended."""

UNIFORM_TEMPERATURE = 1000.0
"""Temperature of uniform sampling: values differ by 1 at most, so probabilities differ by a thousandth at most."""

Name = Annotated[str, StringConstraints(pattern=r"^[\w+&./-]{1,64}$")]
Share = Annotated[float, Field(gt=0, le=1)]


class EvaluateSpec(FrozenModel):
    """Train small models from scratch on rival selections, and measure them on held-out samples.

    Attributes:
        test: held-out samples, none of which may be in the pool. If their captions are the names of classes, zero-shot
            accuracy is measured, else retrieval.
        fractions: shares of the pool to keep. Default: the share of the job's own selection.
        seeds: proxies per selection and share. A seed decides a proxy's weights, its order of samples and its
            augmentation; a random selection is drawn again for each.
        selections: rules by name. Default: the job's own as `selected`, each score of the job alone, the recipes
            by their names, each estimator intersected with CLIP score, and `random`.
        samples_seen: samples that each proxy is trained on, for every selection. Default: five times the pool.
        batch_size: default: 128, or the size of the smallest selection if that is less.
        lr: AdamW's highest learning rate, after a warm-up and before a cosine decay.
        model: architecture of the proxies. Default: a small ViT (coreset/spec/proxies.py).
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
            raise ValueError(f"`{FULL}` names the whole pool, which is always compared; take another name")
        return value

    def rules(self, own: Rule, scores: Sequence[Score]) -> dict[str, Rule]:
        """Return the rules to compare, by name.

        Args:
            own: the job's own rule.
            scores: the scores that the job computes.
        """
        return self.selections if self.selections is not None else default_rules(own, scores)

    def number_of_trials(self, own: Rule, scores: Sequence[Score]) -> int:
        """Return the largest number of proxies to train; rules that select the same samples are trained once."""
        rules = (canonical(rule.with_recipe(clusters=True)) for rule in self.rules(own, scores).values())
        distinct = {rule.model_dump_json(exclude={"recipe"}) for rule in rules}
        return (1 + len(distinct) * len(self.fractions or [1])) * self.seeds


def default_rules(own: Rule, scores: Sequence[Score]) -> dict[str, Rule]:
    """Return the job's own rule and its rivals, as far as the job computes their scores."""
    rules = {SELECTED: own}
    rules |= {score.value: Rule(by={score: 1.0}) for score in scores if score is not Score.RANDOM}
    rules |= {name: Rule(recipe=name) for name, ranking in RECIPES.items() if ranking.by.keys() <= set(scores)}
    if Score.CLIP_SCORE in scores:
        pairs = ((score, Score.CLIP_SCORE) for score in ESTIMATORS if score in scores)
        rules |= {f"{one}&{other}": Rule(by=_equal(one, other), combine="intersection") for one, other in pairs}
    return rules | {RANDOM: Rule(by={scores[0]: 1.0}, sampling=Sampling(temperature=UNIFORM_TEMPERATURE))}


def _equal(*scores: Score) -> dict[Score, float]:
    return dict.fromkeys(scores, 1.0)


def rule_of_seed(rule: Rule, seed: int) -> Rule:
    """Return the rule for one seed of proxies: a random selection gets a seed of its own."""
    if rule.sampling is None:
        return rule
    drawn = rule.sampling.model_copy(update={"seed": rule.sampling.seed + seed})
    return rule.model_copy(update={"sampling": drawn})
