"""The spec of a selection: which samples to keep. docs/selection.md has an example of each field."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    FiniteFloat,
    field_validator,
    model_validator,
)

from coreset.spec.base import FrozenModel
from coreset.spec.columns import CAPTION, CLUSTER, MAX_COUNT, METADATA, SHARD
from coreset.spec.filters import Column, Filter, UnitInterval, filter_conditions
from coreset.spec.scores import Score


def _one_score(value: Any) -> Any:
    return {value: 1.0} if isinstance(value, str) else value


def _weights_count(value: Mapping[Score, float]) -> Mapping[Score, float]:
    idle = [score.value for score, weight in value.items() if weight == 0]
    if idle:
        raise ValueError(f"the weight of {', '.join(idle)} is 0; expected another number: leave it out, or give one")
    return value


Weights = Annotated[
    dict[Score, Annotated[float, Field(ge=-1000, le=1000)]],
    BeforeValidator(_one_score),
    Field(
        min_length=1,
        examples=[{"diffin": 1, "clip_score": 1}],
        description="a score's name, or a mapping of score to weight",
    ),
    AfterValidator(_weights_count),
]
"""Scores to rank by, with their weights."""


class Quota(FrozenModel):
    """Number of samples that a group may have. The samples with one value of `field` are a group, so are those without.

    Attributes:
        field: cluster, shard, caption, or metadata_NAME.
        max: largest number of samples per group.
        max_share: the same as a share of k, rounded down, at least one sample.
        balance: `proportional` keeps the same share of each group; `equal` the same number, as long as a group lasts;
            `target` the clusters' proportions in the target V, as long as a cluster lasts. If V is the training
            itself, `target` is `proportional`.
        shares: share of k by label, exactly; the other groups compete for the rest by their values.
    """

    field: Column = Field(examples=["cluster"])
    max: int | None = Field(default=None, ge=1, le=MAX_COUNT)
    max_share: float | None = Field(default=None, gt=0, le=1)
    balance: Literal["proportional", "equal", "target"] | None = None
    shares: dict[str, UnitInterval] | None = Field(default=None, min_length=1, max_length=1024)

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if sum(rule is not None for rule in (self.max, self.max_share, self.balance, self.shares)) != 1:
            raise ValueError("a quota has exactly one of `max`, `max_share`, `balance` and `shares`")
        _require_group(self.field)
        if self.balance == "target" and self.field != CLUSTER:
            raise ValueError(
                f"balance `target` needs the field cluster, not {self.field}; take `proportional` or `equal`"
            )
        if self.shares and self.field == CAPTION:
            raise ValueError("a quota on captions cannot have `shares`; take max, max_share or balance")
        if self.shares and sum(self.shares.values()) > 1 + 1e-9:
            raise ValueError(f"the shares sum to {sum(self.shares.values()):g}; expected at most 1: lower them")
        return self


def _require_group(name: str) -> None:
    if name not in (CLUSTER, SHARD, CAPTION) and not name.startswith(METADATA):
        raise ValueError(f"{name} does not group samples; expected cluster, shard, caption or metadata_NAME")


class Sampling(FrozenModel):
    """Sample at random instead of keeping the best, with probabilities proportional to exp(value / temperature).

    Attributes:
        temperature: in units of the value, which is 0 to 1 for ranks; the smaller, the closer to the best k.
        max_repeats: largest number of times that one sample is drawn; subset.npy repeats its uid as often.
        seed: seed of the draw.
    """

    temperature: float = Field(ge=0.001, le=1000)
    max_repeats: int = Field(default=1, ge=1, le=1000)
    seed: int = Field(default=0, ge=0, lt=2**63)


class Size(FrozenModel):
    """The number of samples to keep, given in one of three ways."""

    k: int | None = Field(default=None, ge=1)
    fraction: float | None = Field(default=None, gt=0, le=1)
    threshold: FiniteFloat | None = None


Recipe = Literal["clip_score_target_balanced", "target_balanced"]


class RecipeRanking(NamedTuple):
    """The ranking of a recipe: `by` and, where the parts have clusters, `within`."""

    by: dict[Score, float]
    within: dict[Score, Column]


RECIPES: dict[Recipe, RecipeRanking] = {
    "clip_score_target_balanced": RecipeRanking({Score.CLIP_SCORE: 1.0}, {}),
    "target_balanced": RecipeRanking({Score.DIFFIN: 1.0, Score.CLIP_SCORE: 1.0}, {Score.CLIP_SCORE: CLUSTER}),
}
RECIPE: Recipe = "clip_score_target_balanced"
"""Name of the default recipe, chosen by training on the subsets that rules select (docs/quality.md)."""

MIXED_RECIPE: Recipe = "target_balanced"
"""Name of the recipe with Diff-In, which was the default and had no name in specs stored by older versions."""

RECIPE_QUOTA = Quota(field=CLUSTER, balance="target")
"""The quota of every recipe, if the rule has none."""

RANKED_BY_DEFAULT = (Score.DIFFIN, Score.CLIP_SCORE, *Score)
"""Scores in the order in which one replaces the recipe, if a job does not compute the recipe's scores."""


class Rule(FrozenModel):
    """The order in which samples are selected, for any number of them.

    Attributes:
        by: a score, or weights of several, for example {"diffin": 1, "clip_score": 1}. A negative weight reverses a
            score's order: {"self_influence": -1} keeps the lowest.
        combine: how several scores are combined. `mix`: weighted mean. `intersection`: the k samples that are in every
            score's top p, for the smallest such p; `union`: the k samples that are in any score's top p. The
            magnitude of weights matters for `mix` only.
        scale: the numbers that are combined. `rank`: ranks scaled to 0..1, 1 the best. `zscore`: scores minus their
            mean, divided by their standard deviation. `raw`: the scores themselves.
        within: by score, the column whose groups its rank is taken within: {"loss": "cluster"} compares a sample's
            loss with that of similar images only, so that a hard cluster is not dropped as a whole. Default: ranks
            among all samples.
        winsorise: share of each score's lowest values that is raised, and of its highest that is lowered, to the next.
        filters: conditions by column that a sample must meet to be ranked; scores, caption_length, caption_words,
            image_width, image_height, image_short_side, aspect_ratio, cluster, shard, metadata_NAME.
        distinct: deduplicate: take one sample of each group before a second of any. A group with at least a hundredth
            of all samples is a class, not copies, and is exempt. A quota takes precedence.
        quota: number of samples that a group may have.
        sampling: sample at random instead of keeping the best.
        recipe: a rule by its name. `clip_score_target_balanced`: CLIP score, with the quota
            {"field": "cluster", "balance": "target"} and `distinct` by caption, as far as the parts have clusters and
            the spec does not say otherwise. `target_balanced`: the same by the mean of the ranks of Diff-In and CLIP
            score, CLIP score's within clusters. The first is the default if none of `by`, `combine`, `scale` and
            `within` is given; with one of them the rule is what the fields say, and no more.
    """

    by: Weights = Field(default=RECIPES[RECIPE].by)
    combine: Literal["mix", "intersection", "union"] = "mix"
    scale: Literal["rank", "zscore", "raw"] = "rank"
    within: dict[Score, Column] | None = Field(default=None, examples=[{"loss": "cluster"}])
    winsorise: float = Field(default=0.0, ge=0, lt=0.5)
    filters: dict[Column, Filter] = Field(
        default_factory=dict[Column, Filter], max_length=100, examples=[{"clip_score": {"min": 0.2}}]
    )
    distinct: Column | None = Field(default=None, examples=[CAPTION])
    quota: Quota | None = None
    sampling: Sampling | None = None
    recipe: Recipe | None = None

    @property
    def required_scores(self) -> list[Score]:
        """The scores that the rule reads."""
        return [score for score in Score if score in self.by or score.value in self.filters]

    def with_recipe(self, clusters: bool) -> Self:
        """Return the rule with the recipe's fields filled in, if it asks for the recipe, so that `within` is not None.

        Args:
            clusters: whether the parts have clusters; without, ranks are among all samples.
        """
        if self.recipe is None:
            return self if self.within is not None else self.model_copy(update={"within": {}})
        more: dict[str, Any] = {"within": RECIPES[self.recipe].within if clusters else {}}
        if not self.sampling and getattr(self, "threshold", None) is None:
            more |= {"distinct": self.distinct or CAPTION}
            more |= {"quota": RECIPE_QUOTA} if clusters and not self.quota else {}
        return self.model_copy(update=more)

    def with_scores(self, scores: Collection[Score]) -> Self:
        """Return the rule for a job that computes these scores.

        A rule that names nothing to rank by is the recipe. If the job lacks a score of the recipe, such a rule ranks by
        Diff-In alone, or else by CLIP score, or else by the first score.
        """
        if self.recipe is None or "recipe" in self.model_fields_set or self.by.keys() <= set(scores):
            return self
        best = next((score for score in RANKED_BY_DEFAULT if score in scores), None)
        return self if best is None else self.model_copy(update={"by": {best: 1.0}, "recipe": None})

    @property
    def groups(self) -> list[Column]:
        """The columns that the rule groups by."""
        counted = [self.quota.field] if self.quota else []
        return [*self.rank_groups.values(), *counted, *([self.distinct] if self.distinct else [])]

    @property
    def rank_groups(self) -> dict[Score, Column]:
        """By score, the column whose groups its rank is taken within."""
        return self.within or {}

    def with_k(self, k: int) -> "SelectSpec":
        """Return the selection of the first k samples."""
        return SelectSpec(k=k, **{name: getattr(self, name) for name in Rule.model_fields})

    @field_validator("filters")
    @classmethod
    def _filters_fit(cls, value: dict[str, Filter]) -> dict[str, Filter]:
        for name, wanted in value.items():
            wrong = sorted(wanted.model_dump(exclude_none=True).keys() - set(filter_conditions(name)))
            if wrong:
                raise ValueError(
                    f"a filter on {name} cannot have {', '.join(wrong)}; expected {', '.join(filter_conditions(name))}"
                )
        return value

    @model_validator(mode="after")
    def _recipe_or_fields(self) -> Self:
        """Set the recipe if nothing else says how to rank; a spec stored by an older version names it by a null."""
        named = self.model_fields_set & {"by", "combine", "scale", "within"}
        ranked = self.combine == "mix" and self.scale == "rank"
        if "recipe" not in self.model_fields_set:
            # Not among the fields set, so that with_scores sees a default.
            if named <= {"within"} and self.within is None:
                vars(self)["recipe"] = RECIPE
            elif "within" in named and self.within is None and ranked and self.by == RECIPES[MIXED_RECIPE].by:
                vars(self)["recipe"] = MIXED_RECIPE
        elif self.recipe:
            by, within = RECIPES[self.recipe]
            if "by" not in named:
                vars(self)["by"] = by
            if not (ranked and self.by == by and self.within in (None, {}, within)):
                raise ValueError(
                    f"`recipe` {self.recipe} says how to rank; leave out `by`, `combine`, `scale` and `within`, or "
                    "`recipe`"
                )
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.combine != "mix" and self.scale != "rank":
            raise ValueError(f"combine `{self.combine}` needs ranks, not scale `{self.scale}`; leave `scale` out")
        if self.within and self.scale != "rank":
            raise ValueError(f"`within` needs ranks, not scale `{self.scale}`; leave `scale` out")
        idle = [score.value for score in self.rank_groups if score not in self.by]
        if idle:
            raise ValueError(
                f"`within` names scores that `by` does not: {', '.join(idle)}; add them to `by`, or remove them"
            )
        for name in [*self.rank_groups.values(), *([self.distinct] if self.distinct else [])]:
            _require_group(name)
        if self.sampling and (self.quota or self.distinct):
            raise ValueError("`sampling` excludes `quota` and `distinct`; give `sampling`, or the other two")
        return self


class SelectSpec(Rule, Size):
    """Which samples to keep: exactly `k`, or `fraction` of those that can be ranked, or all with at least `threshold`.

    A selection's id is a hash of these fields in their order: the sizes, those of Rule but the recipe's name, whose
    fields are filled in, and `write_shards`.

    Attributes:
        k: number of samples.
        fraction: share of the samples that can be ranked, if k is not given.
        threshold: lowest value to keep.
        by, combine, scale, within, winsorise, filters, distinct, quota, sampling, recipe: as in Rule.
        write_shards: also write the subset as new WebDataset shards, members byte for byte; in a job spec only.
    """

    write_shards: bool = False

    @property
    def rule(self) -> Rule:
        """The order of samples, without their number."""
        return Rule(**{name: getattr(self, name) for name in Rule.model_fields})

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if sum(size is not None for size in (self.k, self.fraction, self.threshold)) != 1:
            raise ValueError("a selection has exactly one of `k`, `fraction` and `threshold`")
        if self.threshold is not None and self.sampling:
            raise ValueError("`sampling` needs a number of samples: give `k` or `fraction`, not `threshold`")
        if self.threshold is not None and self.distinct:
            raise ValueError("a `threshold` keeps all samples that reach it, in any order: leave `distinct` out")
        if self.threshold is not None and self.quota and self.quota.max is None:
            raise ValueError("this quota needs a number of samples: give `k` or `fraction`, or the quota as `max`")
        return self
