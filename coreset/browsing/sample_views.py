"""SampleViews of samples for people to browse, from rows of a plan's parts and their thumbnails."""

import base64
from typing import Any

from coreset.schemas.part import SampleStatus
from coreset.schemas.plan import Plan
from coreset.schemas.sample import MAX_CAPTION, SampleView
from coreset.spec.scores import ESTIMATORS
from coreset.storage.storage import Storage
from coreset.storage.thumbnails import read_thumbnails


class SampleViews:
    """Builds views of a plan's samples."""

    def __init__(self, storage: Storage, plan: Plan) -> None:
        self._storage, self._plan = storage, plan
        self._uris: dict[str, str | None] = {}
        for shard in plan.shards:
            self._uris[shard.name] = None if shard.name in self._uris else shard.uri

    def __call__(self, rows: list[dict[str, Any]]) -> list[SampleView]:
        """Return the views of rows of parts that also have `kept`, with the thumbnails that exist."""
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
            caption=caption and caption[:MAX_CAPTION],
            scores={score: row[score.value] for score in scores if row[score.value] is not None},
            by_checkpoint={score: values for score, values in terms.items() if values is not None},
            thumbnail=None if image is None else "data:image/jpeg;base64," + base64.b64encode(image).decode(),
        )
