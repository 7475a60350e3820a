"""Gradients, Hessian-vector products, Lanczos and differences, each against a dense float64 oracle."""

import itertools
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import softplus

from diffin import exact
from diffin.adjoint import Segment, lanczos, segment_directions
from diffin.autodiff import differentiable_kernels
from diffin.batch_loss import GaussNewton, MeanLoss
from diffin.calibrate import calibrate
from diffin.contrastive import LossKind, batch_loss, masked_members
from diffin.samples import ModuleLosses
from diffin.stencil import curve, first_difference, merge, mixed, move
from tests.diffin import oracle as oracle


@dataclass(frozen=True)
class Quadratic:
    """Half theta^T matrix theta, for the adjoint."""

    matrix: torch.Tensor

    def gradient(self, theta: torch.Tensor) -> torch.Tensor:
        return self.matrix @ theta

    def hvp(self, theta: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
        return self.matrix @ direction


def whole(clip):
    masked = masked_members(clip.reference, clip.reference)
    return lambda theta: batch_loss(clip.encode(theta, clip.reference), masked, clip.kind)


@pytest.mark.parametrize("batch_size", [5, 24])
def test_gradient_and_hvp_in_batches_are_those_of_the_whole(clip, batch_size):
    theta = clip.theta.double()
    vector = torch.randn(theta.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    loss = clip.batch(clip.reference, batch_size)
    torch.testing.assert_close(loss.gradient(theta), oracle.gradient(whole(clip), theta), atol=1e-10, rtol=1e-8)
    with differentiable_kernels():
        forward_over_reverse = torch.func.jvp(torch.func.grad(whole(clip)), (theta,), (vector,))[1]
    torch.testing.assert_close(loss.hvp(theta, vector), forward_over_reverse, atol=1e-9, rtol=1e-8)


def test_hvp_is_linear_and_symmetric(clip):
    theta, loss = clip.theta.double(), clip.batch(clip.reference)
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.randn(theta.shape, dtype=torch.float64, generator=generator) for _ in "ab")
    ha, hb = loss.hvp(theta, a), loss.hvp(theta, b)
    torch.testing.assert_close(loss.hvp(theta, 2 * a - 3 * b), 2 * ha - 3 * hb, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(a @ hb, b @ ha)


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_mean_loss_splits_into_batches(seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(9, 3, dtype=torch.float64, generator=generator)
    theta, vector = (torch.randn(3, dtype=torch.float64, generator=generator) for _ in "tv")
    losses = lambda t, rows: torch.tanh(rows @ t) ** 2  # noqa: E731
    loss = MeanLoss(losses, [x[:4], x[4:]], 9)
    torch.testing.assert_close(loss.gradient(theta), oracle.gradient(lambda t: losses(t, x).mean(), theta))
    torch.testing.assert_close(loss.hvp(theta, vector), oracle.hvp(lambda t: losses(t, x).mean(), theta, vector))


def random_symmetric(size: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(size, size, dtype=torch.float64, generator=generator)
    return (root + root.T) / 2 + shift * torch.eye(size, dtype=torch.float64)


@given(st.integers(2, 12), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_lanczos_with_all_steps_is_the_matrix(size, seed):
    matrix = random_symmetric(size, seed)
    start = torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + 1))
    space = lanczos(lambda v: matrix @ v, start, size)
    basis, values, vectors = space.basis, space.values, space.vectors
    torch.testing.assert_close(basis @ basis.T, torch.eye(len(basis), dtype=torch.float64), atol=1e-8, rtol=0)
    rebuilt = basis.T @ (vectors @ torch.diag(values) @ vectors.T) @ basis @ start
    torch.testing.assert_close(rebuilt, matrix @ start, atol=1e-6, rtol=1e-6)


def test_segment_of_a_quadratic_is_exp_and_phi():
    matrix = random_symmetric(8, 0, shift=6.0)  # positive definite
    generator = torch.Generator().manual_seed(1)
    u = torch.randn(8, dtype=torch.float64, generator=generator)
    p = 0.5 + torch.rand(8, dtype=torch.float64, generator=generator)
    lr_sum = 0.3
    r, start, _ = segment_directions(Segment(u, lr_sum, [Quadratic(matrix)], p), u, steps=8)
    hp = matrix * p[None, :]  # H P
    torch.testing.assert_close(start, torch.matrix_exp(-lr_sum * hp) @ u)
    inverse = torch.linalg.inv(hp)
    torch.testing.assert_close(r, p * (inverse @ (u - torch.matrix_exp(-lr_sum * hp) @ u)))


def test_minibatches_act_one_after_another_backwards():
    first, second = random_symmetric(6, 0, shift=6.0), random_symmetric(6, 1, shift=6.0)
    u = torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    r, start, _ = segment_directions(Segment(u, 0.4, [Quadratic(first), Quadratic(second)]), u, steps=6)
    late, middle, _ = segment_directions(Segment(u, 0.2, [Quadratic(second)]), u, steps=6)
    early, expected, _ = segment_directions(Segment(u, 0.2, [Quadratic(first)]), middle, steps=6)
    torch.testing.assert_close(r, early + late)
    torch.testing.assert_close(start, expected)


def test_negative_eigenvalues_are_clamped():
    matrix = torch.diag(torch.tensor([-5.0, 2.0], dtype=torch.float64))
    u = torch.tensor([1.0, 1.0], dtype=torch.float64)
    r, start, _ = segment_directions(Segment(u, 0.5, [Quadratic(matrix)]), u, steps=2)
    decay = torch.exp(torch.tensor(-1.0, dtype=torch.float64))
    torch.testing.assert_close(start, torch.stack([torch.ones_like(decay), decay]))
    torch.testing.assert_close(r, torch.stack([torch.full_like(decay, 0.5), (1 - decay) / 2]))


def test_a_zero_adjoint_gives_zero_directions():
    zero = torch.zeros(4)
    r, start, _ = segment_directions(Segment(zero, 0.5, [Quadratic(torch.eye(len(zero)))]), zero)
    assert not r.any()
    assert not start.any()


def quartic(theta: torch.Tensor) -> torch.Tensor:
    """A smooth function with all derivatives: two losses (2,)."""
    return torch.stack([torch.sin(theta @ theta), torch.exp(theta[0] * theta[1]) + theta[2] ** 3])


THETA = torch.tensor([0.3, -0.4, 0.5], dtype=torch.float64)
V = torch.tensor([1.0, 0.2, -0.3], dtype=torch.float64)
B = torch.tensor([-0.5, 0.7, 0.4], dtype=torch.float64)
W = torch.tensor([0.3, 0.1, -0.9], dtype=torch.float64)


def exact_quartic(v: torch.Tensor) -> dict[str, torch.Tensor]:
    jacobian = torch.func.jacrev(quartic)(THETA)
    second = torch.func.jacrev(torch.func.jacrev(quartic))(THETA)
    return {
        "first": jacobian @ V,
        "tracin": jacobian @ v,
        "diffin_eq9": torch.einsum("nij,i,j->n", second, v, B) + jacobian @ W,
    }


def error_of(stencil, v, name) -> float:
    directions = {"first": V, "gradient": B, "bend": W, "target_gradient": v}
    losses = torch.stack([quartic(move(THETA, point, directions)) for point in stencil.points], 1)
    found = losses @ torch.tensor(stencil.weights[name], dtype=torch.float64)
    return float((found - exact_quartic(v)[name]).abs().max())


@pytest.mark.parametrize(
    ("make", "v", "name"),
    [
        (lambda h: first_difference("first", "first", h), V, "first"),
        (curve, B, "diffin_eq9"),
        (curve, B, "tracin"),
        (lambda h: mixed(h, 2 * h), V, "diffin_eq9"),
        (lambda h: mixed(h, 2 * h), V, "tracin"),
    ],
)
def test_differences_are_of_second_order(make, v, name):
    errors = [error_of(make(h), v, name) for h in (0.02, 0.01, 0.005)]
    for coarse, fine in itertools.pairwise(errors):
        assert coarse / fine == pytest.approx(4, rel=0.1)


def test_the_difference_of_the_exact_path_is_of_second_order(monkeypatch):
    samples = ModuleLosses(lambda theta, batch: quartic(theta))
    directions = {"target_gradient": V, "gradient": B, "bend": W}
    errors = []
    for step in (0.08, 0.04, 0.02, exact.RELATIVE_STEP):
        monkeypatch.setattr(exact, "RELATIVE_STEP", step)
        found = exact.exact_terms(samples, THETA, directions, None)["diffin_eq9"]
        errors.append(float((found - exact_quartic(V)["diffin_eq9"]).abs().max()))
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.1)
    assert errors[3] < 1e-6 < errors[2]


def test_merge_takes_equal_points_once():
    merged = merge([curve(0.1), first_difference("diffin", "influence", 0.2)], extra=((),))
    assert len(merged.points) == 5
    assert all(len(row) == 5 for row in merged.weights.values())


@given(st.floats(-6, 2), st.floats(-2, 5))
@settings(deadline=None)
def test_calibration_finds_the_valley(best, off):
    """The error of a difference: h^2 from the bend, 1/h from round-off, the least of both at 10**best."""
    found = calibrate(
        lambda h: h, lambda h: 1e-4 * ((h / 10**best) ** 2 + 10**best / h), 10 ** (best + off), attainable=2e-4
    )
    assert found.error < 4e-4
    assert found.error == min(error for _, error in found.tried)
    assert len(found.tried) < 25


def test_a_gauss_newton_product_is_that_of_the_dense_matrix(clip, pairs):
    """J^T C J by rows of J from reverse mode and C by torch's own Hessian, on batches whole and split."""
    batch = pairs(10, 300, seed=8)
    theta = clip.theta.double()
    masked = masked_members(batch, batch)

    def logits(point: torch.Tensor) -> torch.Tensor:
        encoded = clip.encode(point, batch)
        return encoded.scale * encoded.image @ encoded.text.T + encoded.bias

    def loss(values: torch.Tensor) -> torch.Tensor:
        own, others = values.diagonal()[:, None], torch.where(masked, -1e9, values)
        back = torch.where(masked, -1e9, values.T)
        if clip.kind is LossKind.SIGLIP:
            both = softplus(others).sum(1) + softplus(back).sum(1)
            return (softplus(-own[:, 0]) + both / 2).mean()
        return sum((torch.cat([own, one], 1).logsumexp(1) - own[:, 0]).mean() for one in (others, back)) / 2

    point = theta.clone().requires_grad_()
    values = logits(point)
    jacobian = torch.stack([torch.autograd.grad(one, point, retain_graph=True)[0] for one in values.flatten()])
    curvature = torch.autograd.functional.hessian(loss, values.detach()).reshape(len(jacobian), len(jacobian))
    direction = torch.randn(theta.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    expected = jacobian.T @ (curvature @ (jacobian @ direction))
    for batch_size in (64, 4):
        found = GaussNewton(clip.batch(batch, batch_size)).hvp(theta, direction)
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-12)
    assert float(direction @ expected) > 0
