"""The sensitivity benchmark, small: its sweeps say what the estimators do, and its figures hold what the JSON holds."""

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from benchmarks import plots
from benchmarks.retraining.digits import digits
from benchmarks.retraining.evidence import Choice, retrain, scores
from benchmarks.retraining.training import Training
from benchmarks.sensitivity.correlation import pooled
from benchmarks.sensitivity.step_sweep import errors
from benchmarks.sensitivity.training_sweeps import Case, Restarts, measure
from diffin import stencil as st
from diffin.adjoint import Segment
from diffin.batch_loss import MeanLoss
from diffin.prepare import Checkpoint, Problem
from diffin.samples import ModuleLosses

SMALL = Training("sgd", 0.1, steps=40, batch_size=80, samples=80, retrainings=12, cosine=False)
SWEEPS = {"checkpoints": (1, 5), "size": (8, 80, 99), "lanczos_steps": (1, 3), "pieces": (1, 2)}
RESULTS = Path(plots.__file__).parent / "results/sensitivity.json"


@pytest.fixture(scope="module")
def part() -> dict:
    return measure(Case(digits, SMALL, "digits_sgd", tuple(SWEEPS)), [0, 1], SWEEPS)


def test_a_pooled_correlation_is_the_mean_of_scipys() -> None:
    numbers = np.random.default_rng(0).normal(size=(2, 2, 30)).round(1)
    found = pooled([(score, truth) for score, truth in numbers])
    assert found is not None
    for name, scipys in (("pearson", stats.pearsonr), ("spearman", stats.spearmanr)):
        each = [scipys(*pair)[0] for pair in numbers]
        assert found[f"{name}_by_seed"] == pytest.approx(each)
        assert found[name] == pytest.approx(np.mean(each))
        assert found[f"{name}_95"][0] < found[name] < found[f"{name}_95"][1]


def test_what_is_not_finite_or_does_not_vary_has_no_correlation() -> None:
    truth = np.arange(5.0)
    assert pooled([(np.full(5, np.nan), truth)]) is None
    assert pooled([(truth, np.zeros(5))]) is None


def test_a_sweep_passes_through_the_usual_choice(part: dict) -> None:
    sweep = {point["value"]: point for point in part["sweeps"]["checkpoints"]}
    assert sweep[5]["diffin"] == part["agreement"]["diffin"]
    assert sweep[1]["diffin"] != part["agreement"]["diffin"]
    assert [point["value"] for point in part["sweeps"]["size"]] == [8, 80]
    assert part["agreement"]["first_order"]["pearson"] > part["agreement"]["diffin"]["pearson"] > 0.9
    assert part["training"]["rate"] == SMALL.rate


def test_a_sweep_is_what_the_estimators_say_when_told_so(part: dict) -> None:
    for seed in (0, 1):
        training = replace(SMALL, seed=seed)
        problem = digits(training)
        outcome = retrain(problem, training)
        score = scores(problem, outcome.saved, Choice(pieces=2))["diffin"]
        expected = stats.pearsonr(score.numpy(), outcome.truth.numpy())[0]
        assert part["sweeps"]["pieces"][1]["diffin"]["pearson_by_seed"][seed] == pytest.approx(expected)


def test_rate_times_curvature_is_that_of_the_dense_hessian(part: dict) -> None:
    problem = digits(SMALL)
    saved, _ = problem.train(SMALL)
    loss = lambda theta: problem.loss_without(theta, torch.arange(80), torch.ones(80, dtype=theta.dtype))  # noqa: E731
    image, watched = saved[-1].theta, part["watched"][0]
    for _ in range(100):  # power iteration
        image = torch.func.jvp(torch.func.grad(loss), (saved[-1].theta,), (image / image.norm(),))[1]
    assert watched["rate_times_curvature"][-1] == pytest.approx(SMALL.rate * float(image.norm()), rel=1e-2)
    assert watched["step"][-1] == SMALL.steps
    assert watched["loss"][-1] == pytest.approx(float(loss(saved[-1].theta)))
    assert watched["loss"][-1] < watched["loss"][0]


def test_restarts_begin_the_cosine_anew() -> None:
    whole = Training("sgd", 0.3, 10, 8, 16, 1, floor=0.02)
    again = Restarts("sgd", 0.3, 40, 8, 16, 1, floor=0.02)
    assert [again.lr(step) for step in range(40)] == [whole.lr(step) for step in range(10)] * 4
    assert again.lowered().lr(10) == again.lr(10)


def cubic(theta: Tensor, batch: Tensor) -> Tensor:
    return (batch @ theta) ** 3


def test_errors_of_a_difference_are_those_of_a_cubic() -> None:
    """(f(h) - f(-h)) / 2h of x^3 along d is off by (x . d)^3 h^2."""
    numbers = torch.Generator().manual_seed(0)
    theta, d, x = (torch.randn(shape, generator=numbers, dtype=torch.float64) for shape in (4, 4, (6, 4)))
    samples, loss = ModuleLosses(cubic), MeanLoss(cubic, [x], 6)
    checkpoint = Checkpoint(Segment(theta, 1.0, [loss]), 1, 1.0, loss, None, samples, samples)
    problem = Problem(x, x, ("diffin",), 1)
    make = lambda h: st.first_difference("diffin", "influence", h)  # noqa: E731
    found = errors(problem, checkpoint, {"influence": d}, make, np.array([0.1, 0.2]), unit=2.0)
    for row, h in zip(found, (0.1, 0.2), strict=True):
        exact = 3 * (x @ theta) ** 2 * (x @ d)
        assert row["diffin"] == pytest.approx(float(((x @ d) ** 3 * h**2).norm() / exact.norm()))
        assert row["move"] == 2 * h


def test_figures_are_drawn_from_a_json_alone(part: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "small.json"
    path.write_text(json.dumps({"parts": {"digits_sgd_0.1": part}}))
    monkeypatch.setattr("sys.argv", ["plots", str(path), str(tmp_path / "figures")])
    plots.main()
    drawn = {p.stem: p.read_text() for p in (tmp_path / "figures").iterdir()}
    assert set(drawn) == {"checkpoints", "reference_size", "adjoint", "erratic"}
    assert all(ElementTree.fromstring(text) is not None and "digits, SGD" in text for text in drawn.values())
    before = dict(drawn)
    plots.main()
    assert {p.stem: p.read_text() for p in (tmp_path / "figures").iterdir()} == before


def test_a_training_that_diverged_leaves_a_gap(part: dict, tmp_path: Path) -> None:
    faster = {"training": part["training"] | {"rate": 0.2}, "sweeps": {}}
    broken = part | faster | {"agreement": dict.fromkeys(part["agreement"])}
    whole, gap = (
        plots.draw({"slow": part, "fast": other}, tmp_path)[-1].read_text() for other in (part | faster, broken)
    )
    assert 0 < gap.count("<use") < whole.count("<use")
