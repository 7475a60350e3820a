"""A sample as people look at it, with its thumbnail."""

from pydantic import Field

from coreset.schemas.part import SampleStatus
from coreset.spec.base import Strict
from coreset.spec.scores import Score

LONGEST_CAPTION = 400
LARGEST_PAGE = 100


class SampleView(Strict):
    """A sample with all that is known of it.

    Attributes:
        shard, row: base name of the shard, and position there, from 0.
        uri: of the shard; None where shards share a base name.
        caption: its first LONGEST_CAPTION characters.
        by_checkpoint: an estimator's terms, in step order; their sum is the score.
        kept: whether it is in the job's selection.
        scores, by_checkpoint: none in a bad sample.
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


class Order(Strict):
    """Which samples, and in which order; ties by uid.

    Attributes:
        by: the score to sort by; None sorts by uid.
    """

    by: Score | None = None
    ascending: bool = False
    status: SampleStatus = SampleStatus.OK


class SamplePage(Strict):
    samples: list[SampleView]
    next_page_token: str | None = None
