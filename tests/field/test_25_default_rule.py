"""Issue 18, point 25: a job that names nothing to rank by ranks by what it computes."""

from typing import Any

import pytest
from pydantic import ValidationError

from coreset.schemas.plan import PlannedCheckpoint, Sourced
from coreset.selection.requirements import resolve_spec
from coreset.spec.job import JobSpec
from coreset.spec.scores import Score
from coreset.spec.selection import SelectSpec
from coreset_workers.stages.plan import _warnings
from tests.coreset.selections import plan_of

JOB: dict[str, Any] = {"pool": {"shards": "a.tar"}, "checkpoints": {"run": "logs"}, "select": {"k": 30}}


@pytest.mark.parametrize(
    ("scores", "by"),
    [
        (["random", "loss"], "loss"),
        (["random", "tracin"], "tracin"),
        (["diffin", "loss"], "diffin"),
    ],
)
def test_the_default_follows_the_scores_and_is_visible(scores: list[str], by: str) -> None:
    spec = JobSpec.model_validate({**JOB, "scores": scores})
    assert (spec.select.by, spec.select.recipe) == ({Score(by): 1.0}, None)
    assert JobSpec.model_validate_json(spec.model_dump_json()) == spec
    further = resolve_spec(plan_of(1, scores=spec.scores), SelectSpec(k=3))
    assert (further.by, further.recipe) == ({Score(by): 1.0}, None)


@pytest.mark.parametrize("scores", [["clip_score"], ["diffin", "clip_score"], ["random", "loss", "clip_score"]])
def test_the_score_of_the_recipe_gives_the_recipe(scores: list[str]) -> None:
    spec = JobSpec.model_validate({**JOB, "scores": scores})
    assert spec.select.recipe == "clip_score_target_balanced"
    assert JobSpec.model_validate_json(spec.model_dump_json()) == spec


def test_a_recipe_that_is_named_is_never_replaced() -> None:
    body = {**JOB, "scores": ["loss"], "select": {"k": 30, "recipe": "target_balanced"}}
    with pytest.raises(ValidationError, match="does not compute: diffin, clip_score; add"):
        JobSpec.model_validate(body)


@pytest.mark.parametrize(("score", "warned"), [(Score.CLIP_SCORE, False), (Score.LOSS, False), (Score.TRACIN, True)])
def test_only_jobs_with_influence_warn_of_it(score: Score, warned: bool) -> None:
    number = Sourced(value=0, source="file")
    checkpoint = PlannedCheckpoint(
        index=0, uri="/c.pt", size=1, sha256="", epoch=1, step=number, lr=number, lr_sum=number, optimizer=None
    )
    assert bool(_warnings(plan_of(1, scores=[score], checkpoints=[checkpoint]))) is warned
