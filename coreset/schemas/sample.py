"""Samples for people to browse, with their thumbnails."""

from pydantic import Field

from coreset.schemas.part import SampleStatus
from coreset.spec.base import FrozenModel
from coreset.spec.scores import Score

MAX_CAPTION = 400
"""Characters of a caption that are shown."""

MAX_PAGE_SAMPLES = 100
"""Largest number of samples on a page."""


class SampleView(FrozenModel):
    """A sample with its scores and its thumbnail.

    Attributes:
        shard, row: base name of the shard, and position in it, from 0.
        uri: the shard's URI; None if shards share a base name.
        caption: its first MAX_CAPTION characters.
        by_checkpoint: an estimator's terms, in step order; their sum is the score.
        kept: whether it is in the job's selection.
        scores, by_checkpoint: empty for a bad sample.
        thumbnail: a JPEG as a data: URI.
    """

    uid: str
    shard: str
    key: str
    row: int
    uri: str | None
    caption: str | None = None
    scores: dict[Score, float] = Field(default_factory=dict[Score, float])
    by_checkpoint: dict[Score, list[float]] = Field(default_factory=dict[Score, list[float]])
    kept: bool
    status: SampleStatus = SampleStatus.OK
    thumbnail: str | None = None


class Order(FrozenModel):
    """Order and status of the samples on a page; ties are sorted by uid.

    Attributes:
        by: the score to sort by; None sorts by uid.
        caption: text that the caption contains, in any case.
    """

    by: Score | None = None
    ascending: bool = False
    status: SampleStatus = SampleStatus.OK
    caption: str | None = None


class SamplePage(FrozenModel):
    samples: list[SampleView]
    next_page_token: str | None = None
