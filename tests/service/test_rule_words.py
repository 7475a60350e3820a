"""Rules in words."""

from typing import Any

import pytest

from coreset.spec.selection import SelectSpec
from coreset_service.rule_words import describe_rule


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"by": "clip_score"}, "CLIP score"),
        ({"by": {"clip_score": 1, "diffin": -1}}, "1 times CLIP score + -1 times Diff-In"),
        ({"by": {"loss": 1, "clip_score": 1}, "combine": "intersection"}, "best by all of Loss + CLIP score"),
        ({"by": "loss", "within": {"loss": "cluster"}}, "Loss within its cluster"),
        ({"by": "loss", "quota": {"field": "metadata_site", "max": 5}}, "Loss; at most 5 samples per site"),
        ({"by": "loss", "distinct": "caption"}, "Loss; a second sample with the same caption only after all others"),
        ({"by": "loss", "sampling": {"temperature": 0.1}}, "Loss; drawn at random at temperature 0.1"),
    ],
)
def test_a_rule_is_described_in_full(spec: dict[str, Any], words: str) -> None:
    assert describe_rule(SelectSpec.model_validate({"k": 5, **spec})) == words


def test_the_recipe_is_described_with_its_quota() -> None:
    rule = describe_rule(SelectSpec(k=5).with_recipe(clusters=True))  # pyright: ignore[reportArgumentType]
    assert rule == (
        "Diff-In + CLIP score within its cluster; each cluster with its share in the target; "
        "a second sample with the same caption only after all others"
    )
