"""A plan's id: that of older plans stays what it was, and what the parts hold is part of that of newer ones."""

import json

from coreset.schemas.plan import PART_VERSION, Plan

OLDER = {
    "version": 2,
    "shards": [{"index": 0, "uri": "/pool/0.tar", "size": 1, "etag": None, "expected": None, "expected_source": None}],
    "caption_field": None,
    "checkpoints": [],
    "model": {"name": "m", "config": {}, "source": "spec", "preprocess": {}, "preprocess_source": "defaults"},
    "clip_model": None,
    "clip_pretrained": None,
    "parameters": None,
    "target": {"pool": {"shards": ["/v.tar"], "caption_field": None}, "size": 512},
    "target_shards": [],
    "reference_size": 8,
    "reference_seed": 0,
    "n_samples": {"value": 1.0, "source": "tar headers"},
    "scores": ["clip_score", "random"],
    "seed": 0,
}
"""plan.json as it was before parts had versions."""


def test_a_plan_that_was_written_before_parts_had_versions_keeps_its_id() -> None:
    assert Plan.from_json(json.dumps(OLDER)).id == "21804be3d2c12474eed30be256a5cb6e"


def test_what_the_parts_hold_changes_the_id() -> None:
    older = Plan.from_json(json.dumps(OLDER))
    assert older.id, "which a copy does not take over"
    assert older == Plan.from_json(json.dumps(OLDER))
    newer = older.model_copy(update={"part_version": PART_VERSION})
    others = [{"metadata": ["a"]}, {"metadata": ["b"]}, {"clusters": 8}]
    assert len({plan.id for plan in (older, newer, *(newer.model_copy(update=other) for other in others))}) == 5
