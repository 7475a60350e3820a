"""What a preflight counts, against what preparing and scoring the plan really made."""

import pytest

from coreset.schemas.plan import Plan
from coreset.schemas.preflight import HOST, MemoryStage
from coreset.spec.scores import Score
from coreset.storage.storage import Storage
from coreset_workers.data.loader import Loader
from coreset_workers.estimates import time as times
from coreset_workers.estimates.cheaper import cheaper_changes
from coreset_workers.estimates.memory import MemoryPlan
from coreset_workers.estimates.time import (
    Speed,
    forwards,
    measure_speed,
    preparing_forwards,
    time_estimate,
    unit_stencil,
)
from coreset_workers.influence.prepared_files import load_checkpoint
from coreset_workers.influence.trace import draw_samples, trace
from coreset_workers.model.clip import ClipModel
from coreset_workers.model.precision import PRECISIONS
from coreset_workers.stages.calibrate import calibrate_checkpoints
from coreset_workers.stages.scorer import Scorer
from diffin.self_influence import SIGN


@pytest.fixture(scope="module")
def model(scorer: Scorer) -> ClipModel:
    return ClipModel.build(scorer.plan.model, scorer.device)


def stages(plan: Plan, model: ClipModel) -> dict[str, MemoryStage]:
    return {stage.name: stage for stage in MemoryPlan(plan, model).estimate().stages}


@pytest.mark.slow
def test_the_points_are_those_that_the_preparation_made(plan: Plan, scorer: Scorer, results: Storage) -> None:
    made = [load_checkpoint(results, plan, index, scorer.device).stencil for index in range(len(plan.checkpoints))]
    guessed = [unit_stencil(plan, index) for index in range(len(plan.checkpoints))]
    assert [len(one.points) for one in guessed] == [len(one.points) for one in made]
    assert [one.directions for one in guessed] == [one.directions for one in made]
    assert forwards(plan) == sum(len(one.points) for one in made)


@pytest.mark.parametrize(
    ("scores", "passes"),
    [
        ([Score.DIFFIN], 2),
        ([Score.TRACIN], 2),
        ([Score.DIFFIN, Score.TRACIN, Score.DIFFIN_EQ9, Score.LOSS], 5),
        ([Score.LOSS], 1),
        ([Score.SELF_INFLUENCE], 32),
        ([Score.RANDOM], 0),
    ],
)
def test_forward_passes_are_those_of_the_method_s_cost_table(plan: Plan, scores: list[Score], passes: int) -> None:
    assert forwards(plan.model_copy(update={"scores": scores})) == passes * len(plan.checkpoints)


def test_clip_score_is_one_pass_more_and_the_adjoint_is_most_of_preparing(plan: Plan) -> None:
    with_clip = plan.model_copy(update={"scores": [Score.DIFFIN, Score.CLIP_SCORE]})
    assert forwards(with_clip) == 2 * len(plan.checkpoints) + 1
    diffin, tracin = (plan.model_copy(update={"scores": [score]}) for score in (Score.DIFFIN, Score.TRACIN))
    assert preparing_forwards(diffin) > 2 * preparing_forwards(tracin)


def test_memory_follows_the_plan(plan: Plan, model: ClipModel) -> None:
    whole = stages(plan, model)
    assert set(whole) == {
        "reading checkpoints",
        "tracing the target's gradient back through training",
        "calibrating steps",
        "scoring",
    }
    one = stages(plan.model_copy(update={"checkpoints": plan.checkpoints[:1]}), model)
    assert all(one[name].sum_of("device") < whole[name].sum_of("device") for name in whole)
    few = stages(plan.model_copy(update={"scores": [Score.CLIP_SCORE]}), model)
    assert set(few) == {"reading checkpoints", "scoring"}
    p = 4 * model.layout.size
    vectors = next(item for item in whole["scoring"].items if item.what == "their directions")
    assert (vectors.bytes, vectors.place) == (len(plan.checkpoints) * 3 * p, HOST)


def test_the_vectors_of_self_influence_are_counted(plan: Plan, model: ClipModel) -> None:
    without, whole, alone = (
        stages(plan.model_copy(update={"scores": scores}), model)
        for scores in ([Score.TRACIN], [Score.TRACIN, Score.SELF_INFLUENCE], [Score.SELF_INFLUENCE])
    )
    for stage in ("calibrating steps", "scoring"):
        assert whole[stage].sum_of("device") - without[stage].sum_of("device") == 16 * model.layout.size
        assert alone[stage].sum_of("device") >= 16 * model.layout.size


def test_checkpoints_share_the_vectors_of_self_influence(plan: Plan, scorer: Scorer, loader: Loader) -> None:
    plan = plan.model_copy(update={"scores": [Score.SELF_INFLUENCE]})
    drawn = draw_samples(plan, loader, lambda stage, share: None)
    precision = PRECISIONS["float32"]
    traced = trace(plan, drawn, scorer.device, precision.traced, lambda stage, share: None)
    outcomes = calibrate_checkpoints(plan, traced, precision, lambda stage, share: None)
    vectors = [value for one in outcomes for name, value in one.prepared.directions.items() if name.startswith(SIGN)]
    assert len(vectors) == 16 * len(plan.checkpoints)
    held = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in vectors}
    assert sum(held.values()) == 16 * traced.model.layout.size


def test_the_largest_stage_is_the_need_and_a_cpu_has_no_host_beside_it(plan: Plan, model: ClipModel) -> None:
    found = MemoryPlan(plan, model).estimate()
    assert found.device_bytes == max(stage.sum_of("device", "host") for stage in found.stages)
    assert (found.host_bytes, found.batch_size, found.device) == (0, 64, "cpu")


def test_a_frozen_trunk_makes_further_points_cheaper(
    plan: Plan, scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(times, "TIMED_SECONDS", 0.2)
    scope = ClipModel.build(plan.model, scorer.device, counted=["visual.proj", "text_projection"])
    time = time_estimate(plan, measure_speed(plan, scope, 64))
    whole = plan.n_samples.value * time.forwards / time.samples_per_second
    assert 0 < time.score_seconds < whole


SPEED = Speed(first=1000.0, again=1000.0, flops=1e9, product=9.0, graph=64)


def test_changes_that_make_a_dear_job_cheaper_are_named_with_the_time_they_leave(
    plan: Plan, model: ClipModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(times, "TIMED_SECONDS", 0.05)
    scores = [Score.DIFFIN, Score.TRACIN, Score.DIFFIN_EQ9, Score.CLIP_SCORE]
    large = plan.n_samples.model_copy(update={"value": 1e6})
    dear = plan.model_copy(update={"scores": scores, "n_samples": large})
    whole = time_estimate(dear, SPEED)
    found = cheaper_changes(dear, model, 64, SPEED, whole)
    changes = [one.change for one in found]
    assert "`scores` without tracin, diffin_eq9" in changes
    assert all(one.prepare_seconds + one.score_seconds < whole.prepare_seconds + whole.score_seconds for one in found)
    fewer = next(one for one in found if one.change.startswith("`scores`"))
    alone = time_estimate(dear.model_copy(update={"scores": [Score.DIFFIN, Score.CLIP_SCORE]}), SPEED)
    assert (fewer.prepare_seconds, fewer.score_seconds) == (alone.prepare_seconds, alone.score_seconds)
    if len(plan.checkpoints) > 2:
        assert any(change.startswith("the checkpoints of the steps") for change in changes)
    small = plan.model_copy(update={"n_samples": plan.n_samples.model_copy(update={"value": 10})})
    assert cheaper_changes(small, model, 64, SPEED, time_estimate(small, Speed(1e9, 1e9, 1e9, 9.0, 64))) == []
