"""docs/selection.md is true: every body in it is a selection that parts with those fields answer."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coreset.selection.select import select
from coreset.spec.scores import Score
from coreset.spec.selection import SelectSpec
from coreset.storage.storage import Storage
from tests.coreset.selections import plan_of, write_parts

PAGE = (Path(__file__).parents[3] / "docs" / "selection.md").read_text()
BODIES: list[dict[str, Any]] = [json.loads(body) for body in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]
SHRINK = 100
"""The page speaks of pools so much larger."""


def test_the_page_shows_every_field_of_a_selection() -> None:
    shown = {name for body in BODIES for name in body}
    assert shown == SelectSpec.model_fields.keys() - {"write_shards"}


@pytest.mark.parametrize("body", BODIES, ids=str)
def test_a_body_of_the_page_is_answered(tmp_path: Path, body: dict[str, Any]) -> None:
    numbers = np.random.default_rng(0)
    scores = [Score.DIFFIN, Score.CLIP_SCORE, Score.LOSS, Score.SELF_INFLUENCE, Score.RANDOM]
    storage = Storage(str(tmp_path))
    plan = plan_of(1, scores=scores, clusters=32, metadata=["language", "nsfw", "source"])
    pool = [
        {
            "uid": f"{i:032x}",
            "caption": f"a caption {i}",
            "image_width": 300,
            "image_height": 200,
            "cluster": i % 32,
            "metadata_language": ["en", "fr"][i % 2],
            "metadata_nsfw": str(i / 200),
            "metadata_source": ["photos", "drawings", "scans"][i % 3],
            **{score: float(number) for score, number in zip(scores, numbers.normal(size=5), strict=True)},
        }
        for i in range(200)
    ]
    write_parts(storage, plan, [pool])
    wanted = body | ({"k": max(1, body["k"] // SHRINK)} if "k" in body else {})
    found = select(storage, plan, "job", SelectSpec.model_validate(wanted))
    assert 0 < found.k < 200 or wanted.get("sampling") or wanted.get("fraction") == 1
