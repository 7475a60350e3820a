"""What is compared, under which names trials are kept, and the statistics of what they measured."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats

from coreset.browsing.evaluated_cuts import STUDENT_T, evaluate_cuts, mean_interval
from coreset.schemas.evaluation import Cut, Quality, TrialOutcome
from coreset.schemas.manifest import Selection
from coreset.schemas.plan import Plan, PlannedModel, PlannedShard
from coreset.schemas.trials import ProxyPlan, Setup, Trial, Trials
from coreset.selection.trial_plan import plan_trials
from coreset.spec.evaluation import FULL, MAX_TRIALS, RANDOM, SELECTED, UNIFORM_TEMPERATURE, default_rules, rule_of_seed
from coreset.spec.job import JobSpec
from coreset.spec.scores import DEFAULT_SCORES, Score
from coreset.spec.selection import Rule, SelectSpec
from coreset.storage.storage import Storage
from coreset.storage.trials import load_outcome, save_outcome
from tests.coreset.selections import plan_of

JOB: dict[str, Any] = {
    "pool": {"shards": "a.tar"},
    "checkpoints": {"run": "logs"},
    "select": {"k": 30},
}
WORLD = ProxyPlan(
    model=PlannedModel(name="m", config={}, source="spec"),
    test=[PlannedShard(index=0, uri="/test.tar", size=1)],
    caption_field=None,
)


def job(**evaluate: Any) -> JobSpec:
    return JobSpec.model_validate({**JOB, "evaluate": {"test": {"shards": "t.tar"}, **evaluate}})


def outcome(points: float) -> TrialOutcome:
    quality = Quality(accuracy=points / 100, image_to_text={1: 1.0}, text_to_image={1: 1.0})
    return TrialOutcome(quality=quality, tested=10, known=0, seconds=1.0, device="cpu")


# Statistics


def test_students_t_is_scipys() -> None:
    assert [round(float(stats.t.ppf(0.975, df)), 3) for df in range(1, 20)] == list(STUDENT_T)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20))
def test_an_interval_is_the_one_of_scipys_t_test(values: list[float]) -> None:
    found = mean_interval(values)
    assert found.mean == pytest.approx(np.mean(values), abs=1e-9)
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=max(error, 1e-300))
    assert found.low == pytest.approx(low, rel=1e-3, abs=1e-3 * error + 1e-9)
    assert found.high == pytest.approx(high, rel=1e-3, abs=1e-3 * error + 1e-9)


def test_one_value_has_no_interval() -> None:
    assert mean_interval([3.0]).model_dump() == {"mean": 3.0, "low": None, "high": None}


def test_the_points_are_accuracy_or_the_mean_of_the_recalls() -> None:
    recalls = {"image_to_text": {1: 0.1, 5: 0.2, 10: 0.3}, "text_to_image": {1: 0.4, 5: 0.5, 10: 0.6}}
    assert Quality(accuracy=None, **recalls).points == pytest.approx(35)
    assert Quality(accuracy=0.5, **recalls).points == 50


def test_differences_are_taken_seed_by_seed_at_one_size() -> None:
    names, sizes = ("diffin", "clip_score", "random"), (10, 20)
    cuts = [Cut(selection=FULL, fraction=1, k=40)]
    cuts += [Cut(selection=name, fraction=k / 40, k=k) for name in names for k in sizes]
    points = {("diffin", 10): [50, 61, 72], ("clip_score", 10): [49, 59, 69], ("random", 10): [30, 30, 30]}
    found = {
        (cut, seed): outcome(value)
        for cut in cuts
        for seed, value in enumerate(points.get((cut.selection, cut.k), [40, 40, 40]))
    }
    del found[Cut(selection="random", fraction=0.25, k=10), 2]
    by_cut = {(cut.selection, cut.k): cut for cut in evaluate_cuts(cuts, found)}
    diffin = by_cut["diffin", 10]
    assert diffin.points is not None
    assert diffin.points.mean == pytest.approx(61)
    assert [proxy.points for proxy in diffin.proxies] == pytest.approx([50, 61, 72])
    assert diffin.against["clip_score"].mean == pytest.approx(2)
    assert diffin.against["clip_score"].low == pytest.approx(2 - 4.303 / math.sqrt(3))
    assert diffin.against["random"].mean == pytest.approx(25.5), "of the two seeds that both have"
    assert by_cut["clip_score", 10].against.keys() == {"random"}
    assert by_cut[FULL, 40].against == {}


def test_a_cut_without_proxies_has_no_points() -> None:
    cut = Cut(selection="diffin", fraction=1, k=4)
    (found,) = evaluate_cuts([cut], {})
    assert (found.points, found.proxies, found.against) == (None, [], {})


# What is compared


def test_the_rivals_are_those_that_the_scores_allow() -> None:
    own = Rule(by={Score.LOSS: 1.0})
    scores = [score for score in Score if score is not Score.SELF_INFLUENCE]
    rules = default_rules(own, scores)
    assert list(rules) == [
        SELECTED,
        *(score.value for score in scores if score is not Score.RANDOM),
        "clip_score_target_balanced",
        "target_balanced",
        "diffin&clip_score",
        "diffin_eq9&clip_score",
        "tracin&clip_score",
        RANDOM,
    ]
    assert rules[SELECTED] == own
    assert rules["diffin&clip_score"].combine == "intersection"
    assert list(default_rules(own, [Score.LOSS])) == [SELECTED, "loss", RANDOM]


def test_chance_is_drawn_anew_for_each_seed_and_nothing_else_is() -> None:
    rules = default_rules(Rule(), list(DEFAULT_SCORES))
    assert rules[RANDOM].sampling is not None
    assert rules[RANDOM].sampling.temperature == UNIFORM_TEMPERATURE
    seeds = [rule_of_seed(rules[RANDOM], seed).sampling for seed in range(3)]
    assert [drawn.seed for drawn in seeds if drawn] == [0, 1, 2]
    assert rule_of_seed(rules["diffin"], 2) == rules["diffin"]


def test_the_fields_that_a_selections_id_is_made_of_keep_their_order() -> None:
    sizes = ["k", "fraction", "threshold"]
    assert list(SelectSpec.model_fields) == [*sizes, *Rule.model_fields, "write_shards"]
    assert list(Rule.model_fields) == [
        "by",
        "combine",
        "scale",
        "within",
        "winsorise",
        "filters",
        "distinct",
        "quota",
        "sampling",
        "recipe",
    ]
    sized = SelectSpec(k=3, by={Score.LOSS: 1.0}).rule.with_k(7)
    assert sized == SelectSpec(k=7, by={Score.LOSS: 1.0})


@pytest.mark.parametrize(
    ("evaluate", "words"),
    [
        ({"fractions": [0.5, 1.5]}, "less than or equal to 1"),
        ({"fractions": []}, "at least 1 item"),
        ({"selections": {"full": {"by": "loss"}}}, "take another name"),
        ({"selections": {"x": {"k": 3}}}, "Extra inputs"),
        ({"selections": {"x": {"by": "self_influence"}}}, "x needs scores that this job does not compute"),
        ({"selections": {"x": {"filters": {"metadata_y": {"min": 1}}}}}, "x: the parts have no column metadata_y"),
        ({"seeds": 20, "fractions": [n / 20 for n in range(1, 21)]}, f"expected at most {MAX_TRIALS}"),
        ({"seeds": 0}, "greater than or equal to 1"),
        ({"test": {"shards": "pipe:cat"}}, "pipe: would run a shell command"),
    ],
)
def test_what_an_evaluation_cannot_be_is_refused(evaluate: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        job(**evaluate)


def test_fractions_are_a_set() -> None:
    found = job(fractions=[0.5, 0.1, 0.5]).evaluate
    assert found is not None
    assert found.fractions == [0.1, 0.5]


# Trials


def selection_of(spec: JobSpec, plan: Plan, k: int) -> Selection:
    return Selection.model_validate(
        {
            "id": "s",
            "job_id": "j",
            "spec": spec.select.with_recipe(plan.columns.clusters).model_dump(),
            "k": k,
            "rankable": 90,
            "duplicates": 0,
            "threshold": 0.5,
            "created_at": "2026-11-23T12:00:00Z",
            "files": {},
        }
    )


def trials_of(spec: JobSpec, pool_samples: int = 90) -> Trials:
    plan = plan_of(1, scores=spec.scores)
    assert spec.evaluate is not None
    return plan_trials(spec.evaluate, plan, WORLD, selection_of(spec, plan, 30), pool_samples, [])


def test_without_fractions_every_selection_is_as_large_as_the_jobs() -> None:
    trials = trials_of(job())
    assert {cut.k for cut in trials.cuts if cut.selection != FULL} == {30}
    assert trials.cuts[0] == Cut(selection=FULL, fraction=1.0, k=90)
    assert (trials.setup.samples_seen, trials.setup.batch_size) == (450, 30)


def test_equal_questions_are_asked_once_and_seeds_come_one_after_the_other() -> None:
    spec = job(fractions=[0.1, 0.5], seeds=2)
    trials = trials_of(spec)
    assert spec.evaluate is not None
    rules = spec.evaluate.rules(spec.select.rule, spec.scores)
    assert rules[SELECTED] == rules["clip_score_target_balanced"]
    assert len(trials.all) == 2 * (1 + 2 * (len(rules) - 1))
    assert [trial.seed for trial in trials.all] == sorted(trial.seed for trial in trials.all)
    assert len(trials.all) <= spec.evaluate.number_of_trials(spec.select.rule, spec.scores)
    chance = [trial.select.sampling.seed for trial in trials.all if trial.select and trial.select.sampling]
    assert chance == [0, 0, 1, 1]
    assert {trial.select.k for trial in trials.all if trial.select} == {9, 45}


def test_a_trial_is_named_by_all_that_decides_it() -> None:
    setup = Setup(plan_id="p", left_out=[], world=WORLD, samples_seen=10, batch_size=2, lr=0.1)
    trial = Trial(select=SelectSpec(k=3), seed=0)
    setups = [
        setup.model_copy(update=change)
        for change in (
            {"version": setup.version + 1},
            {"plan_id": "q"},
            {"left_out": [1]},
            {"world": WORLD.model_copy(update={"caption_field": "c"})},
            {"world": WORLD.model_copy(update={"test": [PlannedShard(index=0, uri="/test.tar", size=1, etag="2")]})},
            {"samples_seen": 11},
            {"batch_size": 3},
            {"lr": 0.2},
        )
    ]
    changed = [Trial(select=SelectSpec(k=4), seed=0), Trial(select=None, seed=0), Trial(select=trial.select, seed=1)]
    keys = {trial.key(setup), *(trial.key(one) for one in setups), *(one.key(setup) for one in changed)}
    assert len(keys) == 1 + len(setups) + len(changed)
    assert Trial(select=SelectSpec(k=3), seed=0).key(setup) == trial.key(setup)
    assert len({one.data_key for one in [setup, *setups]}) == 5, "how long it trains changes nothing of the data"


def test_an_outcome_is_found_again_under_its_plan(storage: Storage) -> None:
    setup = Setup(plan_id="p", left_out=[], world=WORLD, samples_seen=10, batch_size=2, lr=0.1)
    trial = Trial(select=None, seed=0)
    assert load_outcome(storage, setup, trial) is None
    save_outcome(storage, setup, trial, outcome(40))
    assert load_outcome(storage, setup, trial) == outcome(40)
    assert storage.names("plans/p/trials") == [f"{trial.key(setup)}.json"]
    assert load_outcome(storage, setup, Trial(select=None, seed=1)) is None
