"""Which samples to keep: what a selection is asked by. docs/selection.md shows every way by an example."""

import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    FiniteFloat,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    StringConstraints,
    field_validator,
    model_validator,
)

from coreset.spec.base import Strict
from coreset.spec.columns import CAPTION, CLUSTER, LARGEST_COUNT, METADATA, SHARD, kind_of
from coreset.spec.scores import Score

Column = Annotated[str, StringConstraints(pattern=r"^[\w-]{1,120}$")]
Label = StrictStr | StrictBool | StrictInt | StrictFloat
Rank = Annotated[float, Field(ge=0, le=1)]


def _one_score(value: Any) -> Any:
    return {value: 1.0} if isinstance(value, str) else value


def _weights_count(value: Mapping[Score, float]) -> Mapping[Score, float]:
    idle = [score.value for score, weight in value.items() if weight == 0]
    if idle:
        raise ValueError(f"a weight of 0 counts nothing: leave out {', '.join(idle)}")
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
"""What to rank by."""


def label_text(label: Label) -> str:
    """Return a label as the parts hold it: text as it is, numbers and truth values in json's spelling."""
    return label if isinstance(label, str) else json.dumps(label)


class Filter(Strict):
    """What a sample must have to be ranked at all. Bounds are part of the range; who has no value is left out.

    Attributes:
        min, max: of the value; of metadata, of its text read as a number.
        min_rank, max_rank: of a score's rank among all samples, 0 the worst, 1 the best: {"min_rank": 0.1} leaves out
            the worst tenth.
        any_of: the labels (shards, clusters, values of metadata) to keep.
        none_of: the labels to leave out; who has no label is kept.
    """

    min: FiniteFloat | None = None
    max: FiniteFloat | None = None
    min_rank: Rank | None = None
    max_rank: Rank | None = None
    any_of: list[Label] | None = Field(default=None, min_length=1, max_length=10_000)
    none_of: list[Label] | None = Field(default=None, min_length=1, max_length=10_000)

    @property
    def ranks(self) -> bool:
        return self.min_rank is not None or self.max_rank is not None

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if not self.model_dump(exclude_none=True):
            raise ValueError("give a bound or labels")
        for low, high in ((self.min, self.max), (self.min_rank, self.max_rank)):
            if low is not None and high is not None and low > high:
                raise ValueError(f"nothing is between {low:g} and {high:g}")
        return self


class Quota(Strict):
    """How many samples a group may have. A group is what shares a value of `field`; no value is a group too.

    Attributes:
        field: cluster, shard, caption, or metadata_NAME.
        max: samples of a group at most.
        max_share: the same as a share of k, rounded down, at least one sample.
        balance: `proportional` keeps the same share of every group, `equal` the same number as long as a group has
            more, `target` as many of each cluster as the target V has, as long as it has more. Where V is the training
            itself, `target` is `proportional`.
        shares: by label, the group's share of k, exactly; groups that are not named share the rest by their values.
    """

    field: Column = Field(examples=["cluster"])
    max: int | None = Field(default=None, ge=1, le=LARGEST_COUNT)
    max_share: float | None = Field(default=None, gt=0, le=1)
    balance: Literal["proportional", "equal", "target"] | None = None
    shares: dict[str, Rank] | None = Field(default=None, min_length=1, max_length=1024)

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if sum(rule is not None for rule in (self.max, self.max_share, self.balance, self.shares)) != 1:
            raise ValueError("give one of `max`, `max_share`, `balance` and `shares`")
        _require_group(self.field)
        if self.balance == "target" and self.field != CLUSTER:
            raise ValueError(f"what the target has is known by cluster, not by {self.field}")
        if self.shares and self.field == CAPTION:
            raise ValueError("captions have no `shares`; take max, max_share or balance")
        if self.shares and sum(self.shares.values()) > 1 + 1e-9:
            raise ValueError(f"the shares sum to {sum(self.shares.values()):g}, more than 1")
        return self


def _require_group(name: str) -> None:
    if name not in (CLUSTER, SHARD, CAPTION) and not name.startswith(METADATA):
        raise ValueError(f"{name} is no group; take cluster, shard, caption or metadata_NAME")


class Sampling(Strict):
    """Draw samples by chance instead of keeping the best: a sample's is proportional to exp(value / temperature).

    Attributes:
        temperature: in units of the value, which is 0 to 1 for ranks; the smaller, the closer to the best k.
        max_repeats: how often one sample may be drawn; its uid then stands in subset.npy as often.
        seed: of the draw.
    """

    temperature: float = Field(ge=0.001, le=1000)
    max_repeats: int = Field(default=1, ge=1, le=1000)
    seed: int = Field(default=0, ge=0, lt=2**63)


class Size(Strict):
    """How many samples to keep, in one of three ways."""

    k: int | None = Field(default=None, ge=1)
    fraction: float | None = Field(default=None, gt=0, le=1)
    threshold: FiniteFloat | None = None


RECIPE_WEIGHTS = {Score.DIFFIN: 1.0, Score.CLIP_SCORE: 1.0}
RECIPE_WITHIN: dict[Score, Column] = {Score.CLIP_SCORE: CLUSTER}
RECIPE_QUOTA = Quota(field=CLUSTER, balance="target")
"""What is selected by where `by` and `within` are left out: chosen by training on what it keeps (docs/quality.md)."""


class Rule(Strict):
    """Which samples go first, whatever their number.

    Attributes:
        by: a score, or weights of several, for example {"diffin": 1, "clip_score": 1}. A negative weight turns a
            score's order around: {"self_influence": -1} keeps the lowest.
        combine: how several scores are put together. `mix`: weighted mean. `intersection`: the k samples that are in
            every score's top p, for the smallest such p; `union`: the k samples that are in any score's top p. The
            weights' size counts for `mix` only.
        scale: what is put together. `rank`: ranks scaled to 0..1, 1 the best. `zscore`: scores less their mean, over
            their standard deviation. `raw`: the scores themselves.
        within: by score, the groups that its rank is taken within: {"loss": "cluster"} compares a sample's loss with
            that of alike images only, so that what is hard as a whole is not dropped as a whole; {}: ranks are among
            all. Left out, a mix of the ranks of Diff-In and CLIP score is the recipe: CLIP score within clusters, as
            many of each cluster as the target has, where the parts hold clusters, and no second copy of a caption
            before one of every other, if nothing else is asked.
        winsorise: so large a share of each score's lowest values is raised, and of its highest lowered, to the next.
        filters: by column, what a sample must have to be ranked at all; scores, caption_length, caption_words,
            image_width, image_height, image_short_side, aspect_ratio, cluster, shard, metadata_NAME.
        distinct: no second sample of a group before one of every other; but a group that has a hundredth of all is a
            class, not copies, and is not held back. A quota goes before it.
        quota: how many samples a group may have.
        sampling: draw by chance instead of keeping the best.
    """

    by: Weights = Field(default=RECIPE_WEIGHTS)
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

    @property
    def needs(self) -> list[Score]:
        """The scores that it reads."""
        return [score for score in Score if score in self.by or score.value in self.filters]

    def filled(self, clusters: bool) -> Self:
        """Return the same with what the recipe adds; `within` is then given.

        Args:
            clusters: whether the parts hold them; without, ranks are those among all samples.
        """
        if self.within is not None:
            return self
        if self.by != RECIPE_WEIGHTS or self.scale != "rank" or self.combine != "mix":
            return self.model_copy(update={"within": {}})
        more: dict[str, Any] = {"within": RECIPE_WITHIN if clusters else {}}
        if not self.sampling and getattr(self, "threshold", None) is None:
            more |= {"distinct": self.distinct or CAPTION}
            more |= {"quota": RECIPE_QUOTA} if clusters and not self.quota else {}
        return self.model_copy(update=more)

    @property
    def groups(self) -> list[Column]:
        """The columns that it groups by."""
        counted = [self.quota.field] if self.quota else []
        return [*self.rank_groups.values(), *counted, *([self.distinct] if self.distinct else [])]

    @property
    def rank_groups(self) -> dict[Score, Column]:
        """The column that a score's rank is taken within, by score."""
        return self.within or {}

    def of_size(self, k: int) -> "SelectSpec":
        """Return the selection of the k samples that go first."""
        return SelectSpec(k=k, **{name: getattr(self, name) for name in Rule.model_fields})

    @field_validator("filters")
    @classmethod
    def _filters_fit(cls, value: dict[str, Filter]) -> dict[str, Filter]:
        for name, wanted in value.items():
            wrong = sorted(wanted.model_dump(exclude_none=True).keys() - set(_may_have(name)))
            if wrong:
                raise ValueError(f"{name} is filtered by {', '.join(_may_have(name))}, not by {', '.join(wrong)}")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.combine != "mix" and self.scale != "rank":
            raise ValueError("an intersection or a union is one of ranks: leave `scale` out")
        if self.within and self.scale != "rank":
            raise ValueError("`within` is of ranks: leave `scale` out")
        idle = [score.value for score in self.rank_groups if score not in self.by]
        if idle:
            raise ValueError(f"`within` names what `by` does not: {', '.join(idle)}")
        for name in [*self.rank_groups.values(), *([self.distinct] if self.distinct else [])]:
            _require_group(name)
        if self.sampling and (self.quota or self.distinct):
            raise ValueError("a draw has no quota and no order: give `sampling`, or `quota` and `distinct`")
        return self


class SelectSpec(Rule, Size):
    """Which samples to keep: exactly `k`, or `fraction` of those that can be ranked, or all from `threshold` on.

    A selection's id is made of these fields in their order: the sizes, those of Rule, `write_shards`.

    Attributes:
        k: number of samples.
        fraction: share of the samples that can be ranked, if k is not given.
        threshold: lowest value to keep.
        by, combine, scale, within, winsorise, filters, distinct, quota, sampling: as in Rule.
        write_shards: also write the coreset as new WebDataset shards, members byte for byte; in a job spec only.
    """

    write_shards: bool = False

    @property
    def rule(self) -> Rule:
        return Rule(**{name: getattr(self, name) for name in Rule.model_fields})

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if sum(size is not None for size in (self.k, self.fraction, self.threshold)) != 1:
            raise ValueError("give either `k` or `fraction` or `threshold`")
        if self.threshold is not None and self.sampling:
            raise ValueError("a draw wants to know how many: give `k` or `fraction`, not `threshold`")
        if self.threshold is not None and self.distinct:
            raise ValueError("a threshold keeps all that reach it, whatever goes first: leave `distinct` out")
        if self.threshold is not None and self.quota and self.quota.max is None:
            raise ValueError("this quota wants to know how many: give `k` or `fraction`, or the quota as `max`")
        return self


def _may_have(name: str) -> Iterable[str]:
    """Return what a column's filter may give. Raises ValueError if there is no such column."""
    if name.startswith(METADATA):
        return ("min", "max", "any_of", "none_of")
    kind = kind_of(name)
    if kind is None:
        raise ValueError(f"{name} is nothing that parts hold; take a score, a size, cluster, shard or metadata_NAME")
    return {
        "score": ("min", "max", "min_rank", "max_rank"),
        "measure": ("min", "max"),
        "label": ("any_of", "none_of"),
    }[kind]
