"""Columns of a part, as filters and groups of a selection name them, with their SQL."""

from collections.abc import Iterable
from ctypes import c_float
from dataclasses import dataclass
from typing import Literal

from coreset.spec.scores import Score

Kind = Literal["score", "measure", "label"]

MEASURES: dict[str, str] = {
    "caption_length": "length(caption)",
    "caption_words": r"len(string_split_regex(caption, '[\s\p{Z}]+'))",
    "image_width": "image_width",
    "image_height": "image_height",
    "image_short_side": "least(image_width, image_height)",
    "aspect_ratio": "greatest(image_width, image_height) / least(image_width, image_height)",
}
"""SQL of a sample's numbers by name: characters, words, pixels, and the longer side divided by the shorter one."""

CAPTION_MEASURES = frozenset({"caption_length", "caption_words"})
"""Measures of the caption; parts of every version have them."""

CLUSTER, SHARD, CAPTION, METADATA = "cluster", "shard", "caption", "metadata_"
CAPTION_INDEX = "caption_index"

MAX_COUNT = 2**53
"""Upper bound of the counts in a request, within DuckDB's integers and JSON's exact numbers."""


def float32(number: float) -> float:
    """Return the nearest float32, the precision of scores."""
    return c_float(number).value


def metadata_column(field: str) -> str:
    """Return the name of the column with a field of the json members."""
    return f"{METADATA}{field}"


def column_kind(name: str) -> Kind | None:
    """Return the kind of filter that a column takes, or None if no part has a column of this name."""
    if name in tuple(Score):
        return "score"
    if name in MEASURES:
        return "measure"
    return "label" if name in (CLUSTER, SHARD) or name.startswith(METADATA) else None


@dataclass(frozen=True)
class PartColumns:
    """The columns of one plan's parts.

    Attributes:
        sizes: whether the parts have the images' sizes; those of version 1 lack them.
    """

    scores: tuple[Score, ...]
    metadata: tuple[str, ...] = ()
    clusters: bool = False
    sizes: bool = True

    @property
    def filters(self) -> list[str]:
        """The columns that filters may name."""
        measures = [name for name in MEASURES if self.sizes or name in CAPTION_MEASURES]
        return [*(score.value for score in self.scores), *measures, *self._labels]

    @property
    def groups(self) -> list[str]:
        """The columns that `within`, `distinct` and a quota's `field` may name."""
        return [*self._labels, CAPTION]

    @property
    def _labels(self) -> list[str]:
        return [*([CLUSTER] if self.clusters else []), SHARD, *map(metadata_column, self.metadata)]

    def describe_missing(self, filters: Iterable[str], groups: Iterable[str]) -> str | None:
        """Return a sentence on the columns that do not exist, with those that do; None if all exist."""
        for names, known, purpose in ((filters, self.filters, "filters"), (groups, self.groups, "groups")):
            folded = {name.casefold() for name in known}
            unknown = [name for name in names if name.casefold() not in folded]
            if unknown:
                return f"the parts have no column {', '.join(unknown)}; {purpose} may name {', '.join(known)}"
        return None
