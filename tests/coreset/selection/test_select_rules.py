"""Every rule of a selection against the same in plain Python, over samples with ties, gaps and repeated uids."""

import io
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from coreset.errors import InvalidSpec, PoolUnusable
from coreset.selection.select import select
from coreset.spec.scores import Score
from coreset.spec.selection import SelectSpec
from coreset.storage.storage import Storage
from coreset.storage.target_clusters import save_target_clusters
from coreset.uids import from_subset, read_uids
from tests.coreset.selection.strategies import pools, specs, values
from tests.coreset.selections import SCORES, Refused, Row, expected_times, plan_of, slow_select, write_parts


@given(pools, specs(), st.lists(st.integers(0, 9), max_size=4))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_selection_is_the_slow_one(
    tmp_path_factory: pytest.TempPathFactory, shards: tuple[list[Row], list[Row]], spec: SelectSpec, target: list[int]
) -> None:
    storage, plan = Storage(str(tmp_path_factory.mktemp("storage"))), plan_of(2)
    together = write_parts(storage, plan, shards)
    save_target_clusters(storage, plan, target)
    try:
        expected = slow_select(together, spec, target)
    except Refused:
        event("refused")
        with pytest.raises(InvalidSpec if together else PoolUnusable):
            select(storage, plan, "job", spec)
        return
    asked = [name for name in ("quota", "distinct", "filters", "within") if getattr(spec, name)]
    event(f"kept, with {asked}")
    found = select(storage, plan, "job", spec)
    kept = pq.read_table(found.files["subset.parquet"].uri)
    np.testing.assert_allclose(kept["value"].to_numpy(), expected.values, rtol=1e-6, atol=1e-9)
    if spec.scale != "zscore":  # whose last digits may order samples of almost equal values otherwise
        assert kept["uid"].to_pylist() == expected.kept
    counts = (found.k, found.rankable, found.duplicates, found.filtered, found.repeated)
    assert counts == (len(expected.kept), expected.rankable, expected.duplicates, expected.filtered, 0)
    assert found.threshold == pytest.approx(min(expected.values))
    assert kept["rank"].to_pylist() == list(range(1, found.k + 1))
    assert set(kept["copies"].to_pylist()) == {1}


@given(st.lists(values, min_size=1, max_size=30), st.sampled_from([0.02, 0.3, 2, 50]), st.integers(1, 4), st.data())
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_draw_takes_each_as_often_as_expected_rounded_down_or_up(
    tmp_path_factory: pytest.TempPathFactory, scores: list[float], temperature: float, repeats: int, data: st.DataObject
) -> None:
    storage, plan = Storage(str(tmp_path_factory.mktemp("storage"))), plan_of(1)
    write_parts(storage, plan, [[sample(i, score) for i, score in enumerate(scores)]])
    k = data.draw(st.integers(1, len(scores) * repeats))
    sampling = {"temperature": temperature, "max_repeats": repeats, "seed": data.draw(st.integers(0, 5))}
    spec = SelectSpec.model_validate({"k": k, "by": "clip_score", "scale": "raw", "sampling": sampling})
    found = select(storage, plan, "job", spec)
    kept = pq.read_table(found.files["subset.parquet"].uri).to_pylist()
    copies = Counter({row["uid"]: row["copies"] for row in kept})
    assert sum(copies.values()) == found.k == k
    assert max(copies.values()) <= repeats
    assert found.repeated == k - len(kept)
    for i, expected in enumerate(expected_times(scores, temperature, repeats, k)):
        assert abs(copies[f"{i:032x}"] - expected) < 1 + 1e-4, "systematic sampling rounds down or up"
    subset = np.load(io.BytesIO(storage.read(f"jobs/job/selections/{found.id}/subset.npy")))
    assert from_subset(subset) == sorted(copies.elements())


def sample(number: int, score: float, **fields: Any) -> Row:
    return {"uid": f"{number:032x}", "clip_score": score, "random": number / 100, "caption": f"a {number}"} | fields


def drawn(storage: Storage, plan: Any, **sampling: Any) -> Counter[str]:
    spec = SelectSpec.model_validate({"k": 6, "by": "clip_score", "scale": "raw", "sampling": sampling})
    kept = pq.read_table(select(storage, plan, "job", spec).files["subset.parquet"].uri).to_pylist()
    return Counter({row["uid"]: row["copies"] for row in kept})


def test_over_many_seeds_a_sample_is_drawn_as_often_as_its_chance_says(tmp_path: Path) -> None:
    storage, plan = Storage(str(tmp_path)), plan_of(1)
    scores = [0.0, 0.1, 0.3, 0.5, 0.5, 0.8, 0.9, 1.0, 1.0, 0.2]
    write_parts(storage, plan, [[sample(i, score) for i, score in enumerate(scores)]])
    seeds = 40
    total: Counter[str] = Counter()
    for seed in range(seeds):
        total += drawn(storage, plan, temperature=0.4, max_repeats=2, seed=seed)
    for i, expected in enumerate(expected_times(scores, 0.4, 2, 6)):
        error = math.sqrt(max(expected % 1 * (1 - expected % 1), 0.01) / seeds)
        assert abs(total[f"{i:032x}"] / seeds - expected) < 4 * error, i


def test_the_same_seed_draws_the_same_samples_and_another_others(tmp_path: Path) -> None:
    plan, pool = plan_of(2), [[sample(50 * s + i, i / 50) for i in range(50)] for s in range(2)]
    storages = [Storage(str(tmp_path / name)) for name in ("a", "b")]
    write_parts(storages[0], plan, pool)
    write_parts(storages[1], plan, [pool[0][::-1], pool[1][::-1]])
    one, other = (drawn(storage, plan, temperature=1, seed=7) for storage in storages)
    assert one == other, "whatever the order of the samples in the shards"
    assert one != drawn(storages[0], plan, temperature=1, seed=8)


def test_a_low_temperature_draws_the_best_and_a_high_one_draws_evenly(tmp_path: Path) -> None:
    storage, plan = Storage(str(tmp_path)), plan_of(1)
    write_parts(storage, plan, [[sample(i, i / 10) for i in range(20)]])
    assert drawn(storage, plan, temperature=0.001) == Counter({f"{i:032x}": 1 for i in range(14, 20)})
    evenly = [drawn(storage, plan, temperature=1000, seed=seed) for seed in range(20)]
    assert len({uid for each in evenly for uid in each}) == 20


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"k": 11}, "k is 11, but only 10 samples can be ranked"),
        ({"k": 21, "sampling": {"temperature": 1, "max_repeats": 2}}, "only 10 samples can be ranked, 2 times each"),
        ({"threshold": 1.5}, "no sample reaches the threshold 1.5; the best has 1"),
        ({"threshold": 1e300, "scale": "raw"}, r"no sample reaches the threshold 1e\+300; the best has 0.9"),
        ({"k": 1, "filters": {"clip_score": {"min": 1e300}}}, "none of 10 samples passes all filters"),
        ({"k": 1, "filters": {"cluster": {"any_of": ["\0", 10**30]}}}, "none of 10 samples passes all filters"),
        (
            {"k": 1, "filters": {"clip_score": {"min": 0.5}, "caption_words": {"min": 3}}},
            r"none of 10 samples passes all filters \(5 pass clip_score, 0 pass caption_words\); widen them",
        ),
        ({"k": 6, "filters": {"clip_score": {"min": 0.5}}}, "k is 6, but only 5 samples can be ranked"),
        (
            {"k": 5, "quota": {"field": "cluster", "max": 2}},
            "k is 5, but the quota admits only 4 samples; raise the quota, or lower k",
        ),
        (
            {"k": 8, "quota": {"field": "cluster", "shares": {"0": 0.75}}},
            "the quota wants 6 samples of cluster 0, which has 5 that can be ranked",
        ),
        (
            {"k": 8, "quota": {"field": "cluster", "shares": {"0": 0.25}}},
            "the quota wants 6 samples of all groups that are not named, which has 5",
        ),
        ({"k": 1, "by": "diffin"}, "the job has not computed diffin; it has clip_score, random"),
        ({"k": 1, "filters": {"loss": {"min": 1}}}, "the job has not computed loss"),
        (
            {"k": 1, "filters": {"metadata_x": {"min": 1}}},
            "no column metadata_x; filters may name clip_score, random, capt",
        ),
        (
            {"k": 1, "quota": {"field": "metadata_x", "max": 1}},
            "no column metadata_x; groups may name cluster, shard",
        ),
    ],
)
def test_what_cannot_be_had_is_refused_with_the_numbers(tmp_path: Path, body: Row, words: str) -> None:
    storage, plan = Storage(str(tmp_path)), plan_of(1)
    write_parts(storage, plan, [[sample(i, i / 10, cluster=i % 2) for i in range(10)]])
    with pytest.raises(InvalidSpec, match=words):
        select(storage, plan, "job", SelectSpec.model_validate({"by": "clip_score", **body}))
    assert not storage.exists("jobs/job/selections")


def test_parts_of_before_are_selected_by_what_they_hold_and_the_way_to_more_is_told(tmp_path: Path) -> None:
    storage, older = Storage(str(tmp_path)), plan_of(1, part_version=1, metadata=[], clusters=0)
    write_parts(storage, older, [[sample(i, i / 10) for i in range(10)]])
    long = {"caption_length": {"min": 3}, "clip_score": {"min_rank": 0.5}}
    spec = {"fraction": 1, "by": "clip_score", "filters": long, "quota": {"field": "caption", "max": 1}}
    assert select(storage, older, "job", SelectSpec.model_validate(spec)).k == 5
    for field, wish in (("image_width", {"min": 3}), ("cluster", {"any_of": [1]})):
        with pytest.raises(InvalidSpec, match=rf"the parts have no column {field}; .* post the job again"):
            select(storage, older, "job", SelectSpec.model_validate(spec | {"filters": {field: wish}}))


def test_a_score_that_was_read_from_a_part_is_a_bound_that_it_passes(tmp_path: Path) -> None:
    storage, plan = Storage(str(tmp_path)), plan_of(1)
    write_parts(storage, plan, [[sample(0, 0.7), sample(1, 0.1)]])
    assert float(np.float32(0.7)) < 0.7
    bound = {"by": "clip_score", "filters": {"clip_score": {"min": 0.7}}, "fraction": 1}
    assert select(storage, plan, "job", SelectSpec.model_validate(bound)).k == 1
    assert select(storage, plan, "job", SelectSpec(threshold=0.7, by={Score.CLIP_SCORE: 2}, scale="raw")).k == 1


def test_scores_are_those_that_the_oracle_knows() -> None:
    assert [Score.CLIP_SCORE, Score.RANDOM] == SCORES


CLIP_SCORE_WITHIN = {Score.CLIP_SCORE: "cluster"}


def test_the_recipe_fills_in_what_is_left_out_and_what_parts_hold() -> None:
    recipe = SelectSpec(k=3, recipe="target_balanced").with_recipe(clusters=True)
    assert recipe.within == CLIP_SCORE_WITHIN
    assert SelectSpec(k=3).with_recipe(clusters=True).within == {}
    assert recipe.distinct == "caption"
    assert recipe.quota is not None
    assert (recipe.quota.field, recipe.quota.balance) == ("cluster", "target")
    assert recipe.with_recipe(clusters=True) == recipe
    without = SelectSpec(k=3, recipe="target_balanced").with_recipe(clusters=False)
    assert without == recipe.model_copy(update={"within": {}, "quota": None})


@pytest.mark.parametrize(
    ("asked", "more"),
    [
        ({"k": 3, "by": "loss"}, {"within": {}}),
        ({"k": 3, "by": {"diffin": 2, "clip_score": 1}}, {"within": {}}),
        ({"k": 3, "scale": "raw"}, {"within": {}}),
        ({"k": 3, "combine": "union"}, {"within": {}}),
        ({"k": 3, "within": {}}, {"within": {}}),
        ({"k": 3, "quota": {"field": "shard", "max": 1}}, {"within": {}, "distinct": "caption"}),
        ({"k": 3, "distinct": "shard", "quota": {"field": "shard", "max": 1}}, {"within": {}}),
        ({"k": 3, "recipe": "target_balanced", "sampling": {"temperature": 1}}, {"within": CLIP_SCORE_WITHIN}),
        ({"threshold": 0.5, "recipe": "target_balanced"}, {"within": CLIP_SCORE_WITHIN}),
        ({"threshold": 0.5}, {"within": {}}),
    ],
)
def test_what_is_asked_for_goes_before_the_recipe(asked: Row, more: Row) -> None:
    spec = SelectSpec.model_validate(asked)
    assert spec.with_recipe(clusters=True) == spec.model_copy(update=more)


def test_distinct_keeps_one_of_each_caption_first_and_lets_classes_through(tmp_path: Path) -> None:
    captions = ["a photo of a cat"] * 60 + [f"scene {i // 3}" for i in range(60)] + [f"view {i}" for i in range(400)]
    rows = [
        {"uid": f"{i:032x}", "caption": caption, "clip_score": (len(captions) - i) / 512, "random": 0.0, "cluster": 0}
        | {"image_width": 32, "image_height": 32, "metadata_lang": None}
        for i, caption in enumerate(captions)
    ]
    storage, plan = Storage(str(tmp_path)), plan_of(1)
    write_parts(storage, plan, [rows])

    def kept(k: int) -> list[int]:
        spec = {"k": k, "by": "clip_score", "distinct": "caption"}
        found = select(storage, plan, "job", SelectSpec.model_validate(spec))
        return sorted(int(uid, 16) for uid in read_uids(Path(found.files["subset.npy"].uri)))

    firsts = [*range(60), *range(60, 120, 3)]
    assert kept(80) == firsts
    assert kept(480) == sorted([*firsts, *range(120, 520)])
    assert kept(485) == sorted([*firsts, *range(120, 520), *range(61, 76, 3)])
    assert kept(520) == list(range(520))
