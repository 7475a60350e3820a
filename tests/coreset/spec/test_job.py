"""The job spec: short forms, defaults, and every refusal with the field that it is about."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from coreset.schemas import manifest as result
from coreset.schemas.plan import Plan
from coreset.spec.base import FrozenModel
from coreset.spec.job import JobSpec
from coreset.spec.scores import DEFAULT_SCORES, Score
from coreset.spec.selection import SelectSpec

MINIMAL: dict[str, Any] = {"pool": {"shards": "a.tar"}, "checkpoints": {"run": "logs"}, "select": {"k": 3}}


def with_value(path: str, value: Any) -> dict[str, Any]:
    """MINIMAL with one more value at a dotted path."""
    *folders, last = path.split(".")
    changed = {name: dict(part) for name, part in MINIMAL.items()}
    place: dict[str, Any] = changed
    for folder in folders:
        place = place.setdefault(folder, {})
    place[last] = value
    return changed


def test_short_forms_and_defaults() -> None:
    found = JobSpec.model_validate(MINIMAL)
    assert found.pool.shards == ["a.tar"]
    assert found.target == "training"
    assert found.scores == list(DEFAULT_SCORES)
    assert found.select.by == {Score.CLIP_SCORE: 1}
    by_loss = JobSpec.model_validate({**MINIMAL, "select": {"k": 3, "by": "loss"}})
    assert by_loss.scores == [score for score in Score if score in {*DEFAULT_SCORES, Score.LOSS}]
    assert JobSpec.model_validate_json(by_loss.model_dump_json()) == by_loss
    assert SelectSpec.model_validate({"k": 1, "by": "clip_score"}).by == {Score.CLIP_SCORE: 1}
    files = {"files": ["a.pt", {"uri": "b.pt", "step": 5, "lr": 0.1}]}
    checkpoints = JobSpec.model_validate({**MINIMAL, "checkpoints": files}).checkpoints.files
    assert checkpoints is not None
    assert [(file.uri, file.step, file.lr) for file in checkpoints] == [("a.pt", None, None), ("b.pt", 5, 0.1)]


BASELINE: dict[str, Any] = {
    "pool": {"shards": "a.tar"},
    "clip_model": {"name": "ViT-B-32", "pretrained": "openai"},
    "scores": ["clip_score", "neg_clip_loss", "random"],
    "select": {"k": 3, "by": "clip_score"},
}


def test_scores_of_a_clip_model_need_no_run() -> None:
    assert JobSpec.model_validate(BASELINE).checkpoints is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scores": ["clip_score", "tracin", "loss"]}, r"tracin, loss: these scores need a training run\. Give `check"),
        ({"clip_model": None}, "without `checkpoints` a job needs `clip_model`"),
        ({"parameters": {"last_blocks": 1}}, "`parameters` describes the training run"),
        ({"model": {"name": "ViT-B-32"}}, "`model` describes the training run"),
    ],
)
def test_what_needs_a_run_is_refused_without_one(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        JobSpec.model_validate(BASELINE | changes)


def test_scores_are_one_set_whatever_their_order() -> None:
    one, other = (
        JobSpec.model_validate({**MINIMAL, "scores": scores, "select": {"k": 1, "by": "clip_score"}})
        for scores in (["random", "clip_score", "random"], ["clip_score", "random"])
    )
    assert one == other


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("typo", 1, "Extra inputs are not permitted"),
        ("pool.typo", 1, "Extra inputs are not permitted"),
        ("pool.shards", [], "at least 1 item"),
        ("pool.shards", ["pipe:cat a.tar"], "pipe: would run a shell command"),
        ("pool.shards", ["a.tar::pipe:cat b.tar"], "pipe: would run a shell command"),
        ("pool.metadata", ["a.b"], "should match pattern"),
        ("pool.metadata", ["Lang", "lang"], "two fields have the same name"),
        ("clusters", 1025, "less than or equal to 1024"),
        ("clusters", 257, "expected at most the reference batch's size, 256"),
        ("checkpoints.files", ["a.pt"], "exactly one of `run`"),
        ("checkpoints.run", None, "exactly one of `run`"),
        ("checkpoints.last", 0, "greater than or equal to 1"),
        ("model.name", None, "a model needs `name`, `config`, or both"),
        ("reference.size", 7, "greater than or equal to 8"),
        ("target", "validation", "Input should be 'training'"),
        ("scores", [], "at least 1 item"),
        ("scores", ["nonsense"], "Input should be 'diffin'"),
        (
            "select",
            {"k": 10, "by": "self_influence"},
            "select names scores that this job does not compute: self_influence; add them to `scores`",
        ),
        ("select.fraction", 0.5, "a selection has exactly one of `k`, `fraction`"),
        ("select.k", None, "a selection has exactly one of `k`, `fraction`"),
        ("select.k", 0, "greater than or equal to 1"),
        ("select.by", {}, "at least 1 item"),
        ("select.by", {"diffin": 0}, "the weight of diffin is 0"),
        ("select.by", {"diffin": -1001}, "greater than or equal to -1000"),
        ("select.by", {"diffin": float("nan")}, "less than or equal to 1000"),
        ("select.combine", "sum", "Input should be 'mix'"),
        ("select.threshold", 0.5, "a selection has exactly one of `k`, `fraction` and `threshold`"),
        ("select.winsorise", 0.5, "less than 0.5"),
        ("select.filters", {"clip_score": {}}, "the filter is empty; give a bound, or labels"),
        ("select.filters", {"clip_score": {"min": 2, "max": 1}}, "the lower bound 2 is above the upper bound 1"),
        (
            "select.filters",
            {"clip_score": {"any_of": ["a"]}},
            "a filter on clip_score cannot have any_of; expected min, max, min_rank, max_rank",
        ),
        (
            "select.filters",
            {"caption_length": {"min_rank": 0.1}},
            "a filter on caption_length cannot have min_rank; expected min, max",
        ),
        ("select.filters", {"cluster": {"min": 1}}, "a filter on cluster cannot have min; expected any_of, none_of"),
        ("select.filters", {"nonsense": {"min": 1}}, "unknown column nonsense; expected a score"),
        ("select.filters", {"self_influence": {"min": 1}}, "does not compute: self_influence"),
        (
            "select.filters",
            {"metadata_lang": {"min": 1}},
            "the parts have no column metadata_lang; filters may name diffin",
        ),
        ("select.quota", {"field": "cluster"}, "exactly one of `max`, `max_share`, `balance` and `shares`"),
        ("select.quota", {"field": "cluster", "max": 1, "balance": "equal"}, "exactly one of `max`"),
        ("select.quota", {"field": "uid", "max": 1}, "uid does not group samples; expected cluster, shard, caption"),
        ("select.quota", {"field": "metadata_lang", "max": 1}, "groups may name cluster, shard, caption"),
        ("select.quota", {"field": "shard", "shares": {"a": 0.6, "b": 0.6}}, "the shares sum to 1.2"),
        ("select.quota", {"field": "caption", "shares": {"a": 0.6}}, "a quota on captions cannot have `shares`"),
        (
            "select",
            {"threshold": 1, "quota": {"field": "shard", "max_share": 0.5}},
            "this quota needs a number of samples",
        ),
        ("select", {"threshold": 1, "sampling": {"temperature": 1}}, "`sampling` needs a number of samples"),
        ("select.sampling", {"temperature": 0}, "greater than or equal to 0.001"),
        ("select", {"k": 1, "scale": "raw", "combine": "union"}, "needs ranks, not scale `raw`; leave `scale` out"),
        ("select", {"k": 1, "sampling": {"temperature": 1}, "quota": {"field": "shard", "max": 1}}, "excludes `quota`"),
        ("max_failed_shards", -1, "greater than or equal to 0"),
        ("select", None, "Field required: give `select`, or `clean`"),
        ("clean", {"fraction": 0}, "greater than 0"),
        ("clean", {"fraction": 1}, "less than 1"),
        ("clean", {}, "Field required"),
        ("clean", {"fraction": 0.1, "k": 5}, "Extra inputs are not permitted"),
        ("clean", {"fraction": 0.1, "by": "nonsense"}, "Input should be 'diffin'"),
        ("clean", {"fraction": 0.1}, "give one of `clean` and `select`"),
    ],
)
def test_what_is_wrong_is_refused(path: str, value: Any, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        JobSpec.model_validate(with_value(path, value))
    assert words in str(caught.value)


def test_the_example_of_the_schema_is_a_valid_spec() -> None:
    for example in JobSpec.model_json_schema()["examples"]:
        JobSpec.model_validate(example)


CLEANING: dict[str, Any] = {name: part for name, part in MINIMAL.items() if name != "select"}


def test_a_job_that_cleans_keeps_all_but_its_suspects() -> None:
    found = JobSpec.model_validate(CLEANING | {"clean": {"fraction": 0.1, "by": "loss"}})
    assert found.select == SelectSpec.model_validate({"fraction": 0.9, "by": "loss"})
    assert JobSpec.model_validate_json(found.model_dump_json()) == found
    usual = JobSpec.model_validate(CLEANING | {"clean": {"fraction": 0.3}})
    assert usual.clean
    assert usual.select.by == usual.clean.by
    assert set(usual.select.by) <= set(usual.scores)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "Field required: give `select`, or `clean`"),
        ({"clean": {"fraction": 0.1, "by": "self_influence"}}, "clean names scores that this job does not compute"),
        (
            {"clean": {"fraction": 0.1}, "scores": ["random"]},
            "clean ranks by default by scores that this job does not compute: neg_clip_loss, loss; add them to "
            "`scores`, or give `clean.by` with one of random",
        ),
    ],
)
def test_what_a_job_that_cleans_lacks_is_told(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        JobSpec.model_validate(CLEANING | fields)
    assert words in str(caught.value)


def strict_models() -> list[type[BaseModel]]:
    return [FrozenModel, *FrozenModel.__subclasses__(), Plan, result.Manifest]


@pytest.mark.parametrize("model", strict_models(), ids=lambda model: model.__name__)
def test_no_model_of_the_contract_takes_unknown_fields(model: type[BaseModel]) -> None:
    assert model.model_config["extra"] == "forbid"
    assert model.model_config["frozen"]


def test_clusters_want_the_pass_that_makes_clip_score() -> None:
    alone = {**MINIMAL, "scores": ["tracin"], "select": {"k": 1, "by": "tracin"}}
    assert JobSpec.model_validate({**alone, "clusters": 0}).clusters == 0
    with pytest.raises(ValidationError, match="add clip_score to `scores`"):
        JobSpec.model_validate({**alone, "clusters": 2})
