"""The truth benchmark, small: what is left out is really out, and influence foretells it on a smooth training."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from benchmarks import truth
from benchmarks.retraining.contrastive import weighted_loss
from benchmarks.retraining.digits import digits
from benchmarks.retraining.evidence import of_groups, retrain, scores, unrolled
from benchmarks.retraining.replay import replayed
from benchmarks.retraining.tiny_clip import tiny_clip
from benchmarks.retraining.training import Training, side_by_side
from benchmarks.retraining.two_towers import two_towers
from coreset.spec.scores import SCORES, Score
from diffin.contrastive import Pairs, batch_loss, cosine

pytestmark = pytest.mark.slow

SMALL = Training("sgd", 0.1, steps=40, batch_size=64, samples=128, retrainings=24, floor=0.02)
SMALL_CLIP = Training("adamw", 3e-4, 4, 16, 32, 3, removed=4, warmup=2, weight_decay=0.2)
DIGITS = Training("sgd", 0.1, 60, 80, 80, 12, cosine=False)


@pytest.mark.parametrize("make", [two_towers, tiny_clip])
def test_a_sample_of_weight_0_is_neither_sample_nor_negative(make) -> None:
    problem = make(SMALL_CLIP)
    batch, weights = problem.pool[torch.arange(12)], torch.ones(12, dtype=torch.float64)
    weights[5] = 0
    rest = problem.encode(problem.start, batch[weights > 0])
    alone = batch_loss(rest, torch.eye(11, dtype=torch.bool), problem.loss(None, batch).kind)
    without = weighted_loss(problem.encode(problem.start, batch), weights)
    torch.testing.assert_close(without, alone * 11 / 12)


@pytest.mark.parametrize(
    "training", [SMALL, replace(SMALL, optimizer="adamw", rate=0.003)], ids=lambda training: training.optimizer
)
def test_diffin_foretells_leaving_one_out_of_two_towers(training: Training) -> None:
    problem = two_towers(training)
    outcome = retrain(problem, training)
    found = truth.agreement(scores(problem, outcome.saved)["diffin"].numpy(), outcome.truth.numpy())
    assert found["pearson"] > 0.7
    assert found["pearson_95"][0] <= found["pearson"] <= found["pearson_95"][1]


def test_diffin_foretells_leaving_one_out_of_a_classifier() -> None:
    problem = digits(DIGITS)
    outcome = retrain(problem, DIGITS)
    found = scores(problem, outcome.saved)
    assert truth.agreement(found["diffin"].numpy(), outcome.truth.numpy())["pearson"] > 0.9
    assert "clip_score" not in found


def test_the_replay_of_adamw_is_the_derivative_of_leaving_out() -> None:
    """Against retraining with weights lowered by a millionth; P held constant, it is another number."""
    training = replace(SMALL_CLIP, steps=6, weight=1 - 1e-6)
    problem = tiny_clip(training)
    truth_of_groups = retrain(problem, training).truth
    saved, single = replayed(problem, every=2)
    frozen = replayed(problem, every=2, frozen=True)[1]
    assert [one.step for one in saved] == [0, 2, 4, 6]
    torch.testing.assert_close(single[training.groups()].sum(1), truth_of_groups, rtol=1e-3, atol=1e-8)
    assert float((frozen - single).norm()) > 0.1 * float(single.norm())


def test_the_unrolled_recursion_is_the_derivative_of_leaving_out() -> None:
    problem, almost = digits(DIGITS), replace(DIGITS, weight=0.9999)
    outcome = retrain(problem, almost)
    found = unrolled(problem, outcome.saved)["unrolled"]
    torch.testing.assert_close(found, outcome.truth, rtol=1e-2, atol=1e-3 * float(found.abs().max()))


def test_a_group_counts_the_sum_of_its_samples() -> None:
    problem = tiny_clip(SMALL_CLIP)
    groups = SMALL_CLIP.groups()
    by_hand = cosine(problem.encode(problem.start, problem.pool))[groups].sum(1)
    found = of_groups(problem, lambda pairs: {"clip_score": cosine(problem.encode(problem.start, pairs))})
    torch.testing.assert_close(found["clip_score"], by_hand)


def test_adamw_side_by_side_is_torchs_own() -> None:
    problem = tiny_clip(SMALL_CLIP)
    saved, _ = side_by_side(SMALL_CLIP, problem.start, problem.loss_without, problem.decayed)
    theta = [problem.start[problem.decayed == keep].clone().requires_grad_() for keep in (0, 1)]
    groups = [{"params": theta[:1], "weight_decay": 0.0}, {"params": theta[1:], "weight_decay": 0.2}]
    optimizer = torch.optim.AdamW(groups, lr=1.0, betas=(0.9, 0.98), eps=1e-6)
    for step, rows in enumerate(SMALL_CLIP.minibatches()):
        for group in optimizer.param_groups:
            group["lr"] = SMALL_CLIP.lr(step)
        whole = torch.empty_like(problem.start)
        whole[problem.decayed == 0], whole[problem.decayed == 1] = theta
        optimizer.zero_grad()
        problem.loss_without(whole, rows, torch.ones(len(rows), dtype=torch.float64)).backward()
        optimizer.step()
    for keep in (0, 1):
        torch.testing.assert_close(saved[-1].theta[problem.decayed == keep], theta[keep].detach())


@pytest.mark.slow
def test_scores_of_the_tiny_clip_are_there_for_every_group() -> None:
    problem = tiny_clip(replace(SMALL_CLIP, steps=5))
    outcome = retrain(problem, problem.training)
    found = scores(problem, outcome.saved)
    assert set(found) == {"diffin", "diffin_eq9", "tracin", "clip_score"}
    assert all(value.shape == (3,) and value.isfinite().all() for value in found.values())
    assert isinstance(problem.pool, Pairs)
    assert outcome.truth.abs().min() > 0


def test_agreement_is_scipys() -> None:
    a, b = np.random.default_rng(1).normal(size=(2, 30)).round(1)
    found = truth.agreement(a, b)
    assert found["pearson"] == pytest.approx(stats.pearsonr(a, b)[0])
    assert found["spearman"] == pytest.approx(stats.spearmanr(a, b)[0])


def test_one_row_is_measured_again_and_the_others_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    case = truth.Case(digits, replace(DIGITS, steps=10), "MLP")
    monkeypatch.setattr(truth, "CASES", {"first": case, "second": case, truth.CIFAR[0]: case})
    path = tmp_path / "truth.json"
    for arguments in ([], ["--only", "second"]):
        monkeypatch.setattr("sys.argv", ["truth", "--json", str(path), *arguments])
        before = json.loads(path.read_text())["cases"] if path.exists() else None
        truth.main()
    after = json.loads(path.read_text())["cases"]
    assert list(after) == ["first", "second"]
    assert before is not None
    assert after["first"] == before["first"]
    assert after["second"]["seconds"] != before["second"]["seconds"]
    assert f"{truth.CIFAR[0]}: skipped" in capsys.readouterr().out


def test_what_users_of_eq9_are_told_is_what_was_measured() -> None:
    path = Path(truth.__file__).parent / "results/truth.json"
    cases = json.loads(path.read_text())["cases"].values()
    measurable = [case for case in cases if case["truth"] and case["truth"]["another_order"]["pearson"] > 0.9]
    found = [case["agreement"]["diffin_eq9"]["pearson"] for case in measurable]
    assert len(found) == 7
    assert f"{min(found):.2f} to {max(found):.2f}" in str(SCORES[Score.DIFFIN_EQ9].caution)
    assert max(found) < 0
