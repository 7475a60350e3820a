"""Zero, tiny, huge and non-finite gradients, losses and rates have a defined outcome."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from diffin import stencil as st
from diffin.accuracy import agreement, spearman
from diffin.adjoint import NonFinite, Segment, adjoint
from diffin.batch_loss import MeanLoss
from diffin.calibrate import calibrate, evaluate, first_step, worst_error
from diffin.exact import double, exact_terms
from diffin.layout import norm
from diffin.prepare import Checkpoint, Prepared, Problem, local_directions, prepare
from diffin.samples import ModuleLosses

ALL = ("diffin", "diffin_eq9", "tracin")
THETA = torch.tensor([0.3, -0.4, 0.5])


def smooth(theta: Tensor, x: Tensor) -> Tensor:
    return torch.sin(x.to(theta.dtype) @ theta) + (x.to(theta.dtype) @ theta) ** 3


def draw(count: int, seed: int) -> Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))


def checkpoint(losses: Any, target: Any = None, lr: float = 0.05) -> Checkpoint:
    reference = MeanLoss(losses, [draw(8, 1)], 8)
    v = None if target is None else MeanLoss(target, [draw(8, 2)], 8)
    return Checkpoint(
        Segment(THETA, 0.2, [reference]), 10, lr, reference, v, ModuleLosses(losses), ModuleLosses(losses)
    )


def prepared(at: Checkpoint, probes: Tensor, scale: float = 1.0, estimators: tuple[str, ...] = ALL) -> Prepared:
    """Prepare with a direction of `scale` for diffin."""
    problem = Problem(probes, probes, estimators, 100)
    directions = local_directions(problem, at)
    if "diffin" in estimators:
        directions["influence"] = scale * torch.tensor([1.0, 2.0, -1.0])
    return prepare(problem, at, directions, 1, centre=False)


def assert_passes(found: Prepared, estimators: tuple[str, ...] = ALL) -> None:
    for name in estimators:
        agreed = agreement(found.fast[name], found.exact[name])
        assert agreed.passes(), (name, agreed, found.steps)


@pytest.mark.parametrize("target", [None, lambda theta, x: 0 * smooth(theta, x)])
def test_a_zero_gradient_gives_zero_terms_and_takes_no_pass(target: Any) -> None:
    """A model that fits the target perfectly, or whose loss is constant."""
    losses = smooth if target else lambda theta, x: 0 * smooth(theta, x)
    found = prepared(checkpoint(losses, target), draw(6, 3), scale=0)
    assert found.stencil.columns == ()
    assert found.steps == {}
    for name in ALL:
        assert not found.fast[name].any()
        assert agreement(found.fast[name], found.exact[name]).spearman is None
    assert_passes(found)


def test_a_reference_gradient_of_zero_leaves_the_hessians_term() -> None:
    """b = 0 with another V: the bracket is D_w l alone."""
    even = lambda theta, x: (x.to(theta.dtype) @ (theta - THETA.to(theta.dtype))) ** 2  # noqa: E731
    at = checkpoint(even, smooth)
    at = dataclasses.replace(at, samples=ModuleLosses(smooth), samples64=ModuleLosses(smooth))
    found = prepared(at, draw(6, 3))
    assert not found.directions["gradient"].any()
    assert found.fast["diffin_eq9"].any()
    assert_passes(found)


@pytest.mark.parametrize("lr", [0.0, 1e-12])
def test_a_learning_rate_of_zero_takes_a_checkpoint_out_of_tracin_and_eq9(lr: float) -> None:
    found = prepared(checkpoint(smooth, lr=lr), draw(6, 3))
    assert ("tracin" in found.steps) == (lr > 0)
    assert bool(found.fast["tracin"].any()) == bool(found.fast["diffin_eq9"].any()) == (lr > 0)
    assert len(found.stencil.points) == (2 if lr == 0 else 5)
    assert_passes(found)


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e20, 1e30])
def test_directions_whose_squares_float32_cannot_hold(scale: float) -> None:
    assert_passes(prepared(checkpoint(smooth), draw(6, 3), scale))
    y = scale * torch.ones(3)
    r = adjoint([Segment(THETA, 0.2, [MeanLoss(smooth, [draw(8, 1)], 8)])], y)[0]
    plain = adjoint([Segment(THETA, 0.2, [MeanLoss(smooth, [draw(8, 1)], 8)])], torch.ones(3))[0]
    torch.testing.assert_close(r / scale, plain, rtol=1e-5, atol=1e-6)
    assert norm(y) == pytest.approx(scale * math.sqrt(3))


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_tiny_and_huge_gradients_of_the_target(scale: float) -> None:
    assert_passes(prepared(checkpoint(smooth, lambda theta, x: scale * smooth(theta, x)), draw(6, 3)))


def test_a_probe_without_finite_derivatives_is_left_out_and_not_the_others() -> None:
    probes = torch.cat([draw(6, 3), torch.full((1, 3), 99.0)])
    broken = lambda theta, x: torch.where(x[:, 0] > 50, torch.log(-(theta**2).sum()), smooth(theta, x))  # noqa: E731
    at = dataclasses.replace(checkpoint(smooth), samples=ModuleLosses(broken), samples64=ModuleLosses(broken))
    found = prepared(at, probes)
    assert_passes(found)
    for name in ALL:
        assert agreement(found.fast[name], found.exact[name]).samples == 6
        assert not found.fast[name][6].isfinite()


def test_no_finite_probe_fails_the_gate() -> None:
    never = lambda theta, x: torch.log(-1 - (theta**2).sum()) * x[:, 0]  # noqa: E731
    at = dataclasses.replace(checkpoint(smooth), samples=ModuleLosses(never), samples64=ModuleLosses(never))
    found = prepared(at, draw(6, 3))
    agreed = agreement(found.fast["diffin"], found.exact["diffin"])
    assert (agreed.samples, agreed.passes()) == (0, False)


def test_a_loss_that_is_infinite_at_a_moved_point_gets_a_shorter_step() -> None:
    margin = 1e-4

    def near(theta: Tensor, x: Tensor) -> Tensor:
        return torch.log(margin - (theta - THETA.to(theta.dtype)) @ torch.ones(3, dtype=theta.dtype) + x[:, 0] ** 2)

    at = dataclasses.replace(checkpoint(smooth), samples=ModuleLosses(near), samples64=ModuleLosses(near))
    found = prepared(at, 1e-3 * draw(6, 3), estimators=("diffin",))
    assert found.steps["diffin"].steps["influence"] * 2 < margin
    assert math.isfinite(found.steps["diffin"].error)
    assert found.fast["diffin"].isfinite().all()


def test_both_directions_of_the_mixed_difference_are_calibrated() -> None:
    """The loss bends a thousand times more along b than along v."""

    def bent(theta: Tensor, x: Tensor) -> Tensor:
        t = theta - THETA.to(theta.dtype)
        return (1 + x[:, 1]).to(theta.dtype) * torch.sin(200 * t[0]) * torch.exp(t[1]) + x[:, 0] * t[1]

    along = lambda i: lambda theta, x: theta[i] + 0 * x[:, 0]  # noqa: E731
    at = dataclasses.replace(checkpoint(along(0), along(1)), samples=ModuleLosses(bent), samples64=ModuleLosses(bent))
    probes = draw(6, 3)
    found = prepared(at, probes, estimators=("diffin_eq9", "tracin"))
    steps = found.steps["diffin_eq9"]
    assert steps.steps.keys() == {"target_gradient", "gradient"}
    assert steps.steps["target_gradient"] > 2 * steps.steps["gradient"]
    exact = exact_terms(at.samples64, THETA.double(), double(found.directions), probes)
    error = lambda s: worst_error(evaluate(at.samples, THETA, found.directions, s, probes), exact)  # noqa: E731
    start = first_step(exact["tracin"], THETA, found.directions["target_gradient"], effect=0.1)
    assert steps.error < calibrate(lambda h: st.mixed(h, h), error, start, 3e-3).error
    assert_passes(found, ("diffin_eq9", "tracin"))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_calibration_without_a_finite_error_says_so(bad: float) -> None:
    found = calibrate(lambda h: st.first_difference("diffin", "influence", h), lambda s: bad, 0.1, 1e-4)
    assert found.error == math.inf
    assert found.step > 0


def test_the_worst_error_does_not_lose_a_nan_behind_a_number() -> None:
    values = {"tracin": torch.ones(2), "diffin_eq9": torch.tensor([1.0, math.nan])}
    assert worst_error(values, {name: torch.ones(2) for name in values}) == math.inf
    assert worst_error(dict(reversed(values.items())), {name: torch.ones(2) for name in values}) == math.inf


def test_slopes_of_zero_start_with_a_share_of_the_parameters() -> None:
    assert first_step(torch.zeros(4), THETA, THETA) == pytest.approx(3e-3)
    assert math.isfinite(first_step(torch.zeros(4), torch.zeros(3), THETA))


@pytest.mark.parametrize("segment", [0, 1])
def test_a_trace_that_diverges_names_its_segment(segment: int) -> None:
    good = MeanLoss(smooth, [draw(8, 1)], 8)
    bad = MeanLoss(lambda theta, x: torch.sqrt(theta[0] * 0) * x[:, 0], [draw(8, 1)], 8)  # its slope is nan
    segments = [Segment(THETA, 0.2, [bad if i == segment else good]) for i in range(2)]
    with pytest.raises(NonFinite, match="Hessian-vector product is not finite") as caught:
        adjoint(segments, torch.ones(3))
    assert caught.value.segment == segment
    with pytest.raises(NonFinite, match="the adjoint") as caught:
        adjoint(segments, torch.full((3,), math.nan))
    assert caught.value.segment == 1


def test_a_segment_without_learning_has_no_direction() -> None:
    first, second = adjoint(
        [Segment(THETA, lr_sum, [MeanLoss(smooth, [draw(8, 1)], 8)]) for lr_sum in (0.0, 0.1)], torch.ones(3)
    )
    assert not first.any()
    assert second.any()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_scores_without_a_ranking_are_judged_by_their_error(count: int) -> None:
    exact = torch.full((count,), 3.0)
    good, bad = agreement(exact * (1 + 1e-3 * torch.arange(count)), exact), agreement(exact * 1.1, exact)
    assert good.spearman is bad.spearman is None
    assert good.passes()
    assert not bad.passes()


def test_a_constant_fast_score_does_not_pass_for_a_ranking() -> None:
    exact = 1 + 1e-3 * torch.arange(5.0)
    found = agreement(torch.ones(5), exact)
    assert found.worst_relative_error < 0.02
    assert found.spearman == 0 == spearman(torch.ones(5), exact)
    assert not found.passes()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_fast_score_that_is_not_finite_fails_the_gate(value: float) -> None:
    assert not agreement(torch.tensor([1.0, value, 3.0]), torch.tensor([1.0, 2.0, 3.0])).passes()
