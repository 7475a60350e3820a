"""Filters of a selection: the conditions that a sample must meet to be ranked."""

import json
from collections.abc import Iterable
from typing import Annotated, Self

from pydantic import (
    Field,
    FiniteFloat,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    StringConstraints,
    model_validator,
)

from coreset.spec.base import FrozenModel
from coreset.spec.columns import CLUSTER, METADATA, SHARD, UID, column_kind
from coreset.uids import normalise

MAX_UIDS = 1_000_000
"""Uids of a filter; a body has at most CORESET_MAX_BODY_BYTES, 29,000 uids unless that is raised."""

MAX_LABELS = 10_000
"""Labels of a filter on another column."""

Column = Annotated[str, StringConstraints(pattern=r"^[\w-]{1,120}$")]
Label = StrictStr | StrictBool | StrictInt | StrictFloat
UnitInterval = Annotated[float, Field(ge=0, le=1)]


def label_text(label: Label) -> str:
    """Return a label as the parts store it: text unchanged, numbers and truth values in JSON's spelling."""
    return label if isinstance(label, str) else json.dumps(label)


class Filter(FrozenModel):
    """Conditions on one column. Bounds are inclusive; samples without a value are excluded.

    Attributes:
        min, max: bounds of the value; metadata is read as a number.
        min_rank, max_rank: bounds of a score's rank among all samples, 0 the worst, 1 the best: {"min_rank": 0.1}
            excludes the worst tenth.
        any_of: labels (shards, clusters, values of metadata, uids) to include.
        none_of: labels to exclude; samples without a label are included.
    """

    min: FiniteFloat | None = None
    max: FiniteFloat | None = None
    min_rank: UnitInterval | None = None
    max_rank: UnitInterval | None = None
    any_of: list[Label] | None = Field(default=None, min_length=1, max_length=MAX_UIDS)
    none_of: list[Label] | None = Field(default=None, min_length=1, max_length=MAX_UIDS)

    @property
    def by_rank(self) -> bool:
        """Whether it bounds the rank."""
        return self.min_rank is not None or self.max_rank is not None

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if not self.model_dump(exclude_none=True):
            raise ValueError("the filter is empty; give a bound, or labels in `any_of` or `none_of`")
        for low, high in ((self.min, self.max), (self.min_rank, self.max_rank)):
            if low is not None and high is not None and low > high:
                raise ValueError(f"the lower bound {low:g} is above the upper bound {high:g}; swap them")
        return self


def checked_filter(name: str, wanted: Filter) -> Filter:
    """Return a filter that its column may have, uids in their normal form.

    Raises:
        ValueError: there is no such column, it cannot have such conditions, or a list is too long or has no uids.
    """
    known = list(filter_conditions(name))
    if wrong := sorted(wanted.model_dump(exclude_none=True).keys() - set(known)):
        raise ValueError(f"a filter on {name} cannot have {', '.join(wrong)}; expected {', '.join(known)}")
    lists = {way: labels for way in ("any_of", "none_of") if (labels := getattr(wanted, way)) is not None}
    if name != UID:
        longest = max(map(len, lists.values()), default=0)
        if longest > MAX_LABELS:
            raise ValueError(f"a filter on {name} has at most {MAX_LABELS:,} labels, not {longest:,}; split it")
        return wanted
    return wanted.model_copy(update={way: [_uid(label) for label in labels] for way, labels in lists.items()})


def _uid(label: Label) -> str:
    uid = normalise(label)
    if uid is None:
        raise ValueError(f"{str(label)[:80]!r} is no uid; expected up to 32 hex digits, or a UUID")
    return uid


def filter_conditions(name: str) -> Iterable[str]:
    """Return the conditions that a filter on the column may have. Raises ValueError if there is no such column."""
    if name.startswith(METADATA):
        return ("min", "max", "any_of", "none_of")
    kind = column_kind(name)
    if kind is None:
        raise ValueError(
            f"unknown column {name}; expected a score, a size, {CLUSTER}, {SHARD}, {UID} or {METADATA}NAME"
        )
    return {
        "score": ("min", "max", "min_rank", "max_rank"),
        "measure": ("min", "max"),
        "label": ("any_of", "none_of"),
        "uid": ("any_of", "none_of"),
    }[kind]
