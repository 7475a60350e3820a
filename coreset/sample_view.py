"""A sample as people look at it, with its thumbnail."""

import base64
import posixpath
from typing import Any

from pydantic import Field

from coreset.part import SampleStatus
from coreset.plan import Plan
from coreset.scores import ESTIMATORS, Score
from coreset.storage import Storage
from coreset.strict import Strict
from coreset.thumbnails import read_thumbnails

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


class Views:
    """Makes views of rows of a plan's parts."""

    def __init__(self, storage: Storage, plan: Plan) -> None:
        self._storage, self._plan = storage, plan
        self._uris: dict[str, str | None] = {}
        for shard in plan.shards:
            name = posixpath.basename(shard.uri)
            self._uris[name] = None if name in self._uris else shard.uri

    def __call__(self, rows: list[dict[str, Any]]) -> list[SampleView]:
        """Return the views of rows that also have `kept`, with the thumbnails of those that have one."""
        places = [(row["uid"], row["shard"], row["row"]) for row in rows]
        images = read_thumbnails(self._storage, self._plan, places)
        return [self._view(row, images.get(row["uid"])) for row in rows]

    def _view(self, row: dict[str, Any], image: bytes | None) -> SampleView:
        scores, caption = self._plan.scores, row["caption"]
        terms = {score: row[f"{score.value}_by_checkpoint"] for score in scores if score in ESTIMATORS}
        return SampleView(
            **{name: row[name] for name in ("uid", "shard", "key", "row", "kept")},
            uri=self._uris[row["shard"]],
            status=row.get("status", SampleStatus.OK),
            caption=caption and caption[:LONGEST_CAPTION],
            scores={score: row[score.value] for score in scores if row[score.value] is not None},
            by_checkpoint={score: values for score, values in terms.items() if values is not None},
            thumbnail=None if image is None else "data:image/jpeg;base64," + base64.b64encode(image).decode(),
        )
