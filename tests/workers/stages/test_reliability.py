"""Two draws of minibatches: their rows, the agreement of their scores, and the warning where it is low."""

import pytest
import torch

from coreset.schemas.manifest import Reliability
from coreset.schemas.plan import Plan
from coreset.spec.scores import Score
from coreset.storage.storage import Storage
from coreset_workers.data.loader import Loader
from coreset_workers.influence import prepared_files as prepared
from coreset_workers.influence.trace import MINIBATCH, MINIBATCHES, _choices
from coreset_workers.stages.prepare import RELIABLE, prepare_plan, unreliable
from diffin.accuracy import reliability
from diffin.adjoint import LANCZOS_STEPS

CPU = torch.device("cpu")


def test_the_draws_share_no_sample_where_there_are_enough(plan: Plan) -> None:
    first, second = _choices(plan, 0, 2 * MINIBATCH)
    assert {len(rows) for rows in first + second} == {MINIBATCH}
    assert all(len(rows.unique()) == MINIBATCH for rows in first + second)
    assert not set(torch.cat(first).tolist()) & set(torch.cat(second).tolist())


def test_a_small_pool_gives_all_its_samples_to_both(plan: Plan) -> None:
    for rows in _choices(plan, 0, 40)[0] + _choices(plan, 0, 40)[1]:
        assert rows.sort().values.tolist() == list(range(40))


def test_a_job_measures_its_reliability(plan: Plan, loader: Loader, tmp_path) -> None:
    storage, plan = Storage(str(tmp_path)), plan.model_copy(update={"scores": [Score.DIFFIN]})
    prepare_plan(plan, storage, loader, CPU, lambda stage, share: None)
    found = prepared.load_preparation(storage, plan)
    assert found is not None
    agreed = found.reliability[Score.DIFFIN]
    assert 0 < agreed.between_draws <= 1
    assert agreed.of_mean == pytest.approx(2 * agreed.between_draws / (1 + agreed.between_draws))
    assert agreed.samples > 32
    assert [len(of_draw) for of_draw in found.traced] == [len(plan.checkpoints)] * 2
    for segment in found.traced[0]:
        assert len(segment.steps) == MINIBATCHES
        assert all(1 <= steps <= LANCZOS_STEPS for steps in segment.steps)
        assert segment.residual >= 0
        assert 0 < segment.kept <= 1 + 1e-6


def test_a_score_that_another_draw_ranks_otherwise_has_a_warning() -> None:
    low = Reliability(between_draws=0.5, of_mean=2 / 3, samples=288)
    [warning] = unreliable({Score.DIFFIN: low, Score.TRACIN: low.model_copy(update={"of_mean": RELIABLE})})
    assert warning.startswith("diffin: two draws of minibatches rank 288 samples with a correlation of 0.50")
    assert "0.67, below 0.9" in warning


def test_the_reliability_of_the_mean_is_that_of_two_more_draws() -> None:
    """Scores with equal parts of what is shared and of noise: 0.5 between draws, 2/3 between means of two."""
    numbers = torch.Generator().manual_seed(0)
    shared, *noise = torch.randn(5, 20_000, generator=numbers, dtype=torch.float64)
    draws = [shared + one for one in noise]
    found = reliability(draws[0], draws[1])
    again = reliability(draws[0] + draws[1], draws[2] + draws[3]).between_draws
    assert found.of_mean == pytest.approx(again, abs=0.02)
    assert reliability(shared, -shared).of_mean == 0
    assert (
        reliability(torch.cat([shared, torch.tensor([torch.nan])]), torch.cat([shared, shared[:1]])).samples == 20_000
    )
