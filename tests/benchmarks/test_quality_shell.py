"""The shell in numpy selects what the product selects; a veto, a horizon and an interval are what they say."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.quality.intervals import spread
from benchmarks.quality.scored import Horizon, Scored, horizon_index
from benchmarks.quality.shell import Samples, Shell, Veto, ranks_within
from coreset.selection.select import selected_uids
from coreset.spec.selection import SelectSpec
from coreset.storage.storage import Storage
from coreset.storage.target_clusters import save_target_clusters
from tests.coreset.selections import plan_of, write_parts

SHELL = {
    "by": "clip_score",
    "within": {"clip_score": "cluster"},
    "distinct": "caption",
    "quota": {"field": "cluster", "balance": "target"},
}


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Scored:
    """400 samples in four uneven clusters, with copies and a caption that is a class's."""
    draws = np.random.default_rng(0)
    storage, plan = Storage(str(tmp_path_factory.mktemp("storage"))), plan_of(1)
    captions = [f"c{int(i)}" for i in draws.integers(0, 200, 360)] + ["a class"] * 40
    rows = [
        {
            "uid": f"{int(uid):032x}",
            "caption": caption,
            "clip_score": float(draws.normal()),
            "random": float(draws.random()),
            "cluster": int(draws.choice(4, p=[0.6, 0.2, 0.15, 0.05])),
        }
        for uid, caption in zip(draws.permutation(400), captions, strict=True)
    ]
    write_parts(storage, plan, [rows])
    save_target_clusters(storage, plan, [3, 9, 0, 8])
    return Scored(storage, plan, manifest=None)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("k", [40, 120, 280])
def test_the_shell_around_one_score_is_the_selection_of_a_spec(scored: Scored, k: int) -> None:
    expected = selected_uids(scored.storage, scored.plan, SelectSpec.model_validate(SHELL | {"k": k}))
    found = Samples.of(scored, {}).chosen(Shell({"clip_score": 1}), k)
    assert sorted(found) == sorted(expected)


def test_a_veto_leaves_out_the_lowest_of_every_cluster(scored: Scored) -> None:
    samples = Samples.of(scored, {})
    kept = set(samples.chosen(Shell({"clip_score": 1}, veto=Veto("random", 0.25)), 250))
    left_out = ranks_within(samples.scores["random"], samples.clusters) < 0.25
    assert kept.isdisjoint(uid for uid, out in zip(samples.uids, left_out, strict=True) if out)
    for cluster in range(4):
        share = left_out[samples.clusters == cluster].mean()
        assert share == pytest.approx(0.25, abs=1 / (samples.clusters == cluster).sum())


@pytest.mark.parametrize(
    ("horizon", "index"),
    [
        ("last", 4),
        ("lowest", 3),
        ("before the lowest", 2),
        ("half of the fall", 1),
        ("four fifths of the fall", 2),
    ],
)
def test_a_horizon_is_the_checkpoint_that_its_rule_takes(horizon: Horizon, index: int) -> None:
    assert horizon_index([5.9, 5.4, 5.1, 5.0, 5.3], 6.0, horizon) == index


def test_an_interval_holds_what_varies_between_scoring_runs() -> None:
    same_in_a_run = {("a", 0): [1.0, 1.0], ("a", 1): [2.0, 2.0], ("b", 0): [3.0, 3.0], ("b", 1): [6.0, 6.0]}
    found = spread(same_in_a_run)
    # Variances between runs 0.5 and 4.5, pooled 2.5; each pool's mean has half of it, their mean a quarter.
    error = (2.5 / 4) ** 0.5
    assert (found.mean, found.holds) == (3.0, "runs")
    assert found.high == pytest.approx(3.0 + 4.302653 * error)
    assert found.minimal_difference == pytest.approx((4.302653 + 1.060660) * error)
    of_seeds = spread({("a", 0): [1.0, 3.0], ("b", 0): [4.0, 6.0]})
    assert (of_seeds.mean, of_seeds.holds, of_seeds.high) == (3.5, "seeds", pytest.approx(3.5 + 4.302653 / 2**0.5))


def test_a_shell_file_is_read_in_the_order_of_uids(scored: Scored, tmp_path: Path) -> None:
    samples = Samples.of(scored, {"more": {f"{i:032x}": float(i) for i in range(400)}})
    assert samples.scores["more"].tolist() == list(range(400))
