"""docs/evaluation.md: its bodies are valid specs, and the defaults it states are those of the code."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from coreset.spec.evaluation import EvaluateSpec, default_rules
from coreset.spec.job import JobSpec
from coreset.spec.proxies import BATCH_SIZE, LEARNING_RATE, PASSES, PROXY_MODEL, SEEDS
from coreset.spec.scores import DEFAULT_SCORES

PAGE = (Path(__file__).parents[3] / "docs" / "evaluation.md").read_text()
BODIES: list[dict[str, Any]] = [json.loads(body) for body in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]
NUMBERS = {3: "three", 4: "four", 5: "five", 6: "six", 8: "eight", 10: "ten"}


@pytest.mark.parametrize("body", BODIES, ids=str)
def test_a_body_of_the_page_is_a_spec(body: dict[str, Any]) -> None:
    rest = {"pool": {"shards": "a.tar"}, "checkpoints": {"run": "logs"}, "select": {"k": 3}}
    assert JobSpec.model_validate(rest | body).evaluate is not None


def test_the_page_tells_the_defaults() -> None:
    for field in EvaluateSpec.model_fields:
        assert f"`{field}`" in PAGE or f'"{field}"' in PAGE, field
    assert f"| `seeds` | {SEEDS} proxies" in PAGE
    assert f"{NUMBERS[PASSES]} times the pool" in PAGE
    assert f"{BATCH_SIZE}, or the smallest selection if that is less; {LEARNING_RATE:g}" in PAGE
    side = PROXY_MODEL["vision_cfg"]["image_size"]
    assert f"{round(3 * side**2 / 1000)} kB per sample at {side} pixels" in PAGE


def test_the_page_tells_the_rivals() -> None:
    names = default_rules(JobSpec.model_validate(BODIES[0]).select.rule, list(DEFAULT_SCORES))
    for name in names.keys() - set(DEFAULT_SCORES) - {"diffin_eq9&clip_score", "tracin&clip_score"}:
        assert f"`{name}`" in PAGE, name
