"""What a selection can filter and group by besides scores, and the SQL of it over the rows of a plan's parts."""

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
"""Numbers of a sample: characters, words, pixels, and the longer side over the shorter one."""

OF_CAPTION = frozenset({"caption_length", "caption_words"})
CLUSTER, SHARD, CAPTION, METADATA = "cluster", "shard", "caption", "metadata_"


LARGEST_COUNT = 2**53
"""Of anything that is counted in a request; DuckDB's integers end somewhere."""


def float32(number: float) -> float:
    """Return the nearest float32: scores have no more digits."""
    return c_float(number).value


def metadata_column(field: str) -> str:
    """Return the name of the column that holds a field of the json members."""
    return f"{METADATA}{field}"


def kind_of(name: str) -> Kind | None:
    """Return what a column is to filters, or None if no part has one of this name."""
    if name in tuple(Score):
        return "score"
    if name in MEASURES:
        return "measure"
    return "label" if name in (CLUSTER, SHARD) or name.startswith(METADATA) else None


@dataclass(frozen=True)
class Held:
    """What the parts of one plan hold.

    Attributes:
        sizes: the images' sizes; parts of version 1 lack them.
    """

    scores: tuple[Score, ...]
    metadata: tuple[str, ...] = ()
    clusters: bool = False
    sizes: bool = True

    @property
    def filters(self) -> list[str]:
        """The names that filters may have."""
        measures = [name for name in MEASURES if self.sizes or name in OF_CAPTION]
        return [*(score.value for score in self.scores), *measures, *self._labels]

    @property
    def groups(self) -> list[str]:
        """The columns that a quota's `field` and `within` may name."""
        return [*self._labels, CAPTION]

    @property
    def _labels(self) -> list[str]:
        return [*([CLUSTER] if self.clusters else []), SHARD, *map(metadata_column, self.metadata)]

    def lacking(self, filters: Iterable[str], groups: Iterable[str]) -> str | None:
        """Return what a selection wants that is not there, and what is, in a sentence; None if all is there."""
        known = {name.casefold() for name in self.filters}
        wanted = [name for name in filters if name.casefold() not in known]
        if wanted:
            return f"the parts hold no {', '.join(wanted)}; filters may name {', '.join(self.filters)}"
        known = {name.casefold() for name in self.groups}
        wanted = [name for name in groups if name.casefold() not in known]
        if wanted:
            return f"the parts hold no {', '.join(wanted)}; groups may be {', '.join(self.groups)}"
        return None
