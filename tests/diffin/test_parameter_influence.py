"""I_theta(S): the transpose of the adjoint, the recursion itself, and what retraining without S does to the weights."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import Tensor

from diffin.adjoint import Segment, adjoint
from diffin.batch_loss import MeanLoss
from diffin.contrastive import masked_members, sample_losses
from diffin.layout import Layout
from diffin.parameter_influence import ContrastiveSetLoss, parameter_influence
from diffin.samples import ContrastiveLosses
from tests.diffin import oracle as oracle

P = 6


@dataclass(frozen=True)
class Quadratic:
    """Half theta^T matrix theta."""

    matrix: Tensor

    def gradient(self, theta: Tensor) -> Tensor:
        return self.matrix @ theta

    def hvp(self, theta: Tensor, direction: Tensor) -> Tensor:
        return self.matrix @ direction


@dataclass(frozen=True)
class Constant:
    """A loss whose gradient is the same everywhere."""

    slope: Tensor

    def gradient(self, theta: Tensor) -> Tensor:
        return self.slope


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def symmetric(seed: int) -> Tensor:
    root = draw(seed, P, P)
    return (root + root.T) / 2  # with eigenvalues of both signs: the clamp counts


@given(st.integers(0, 10_000), st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_it_is_the_transpose_of_the_adjoint(seed: int, minibatches: int) -> None:
    """<u_T, I^T> = sum over segments of <r_t, g_t>, for segments with P and without."""
    segments = [
        Segment(draw(seed, P), 0.4, [Quadratic(symmetric(seed + i)) for i in range(minibatches)], p)
        for p in (None, 0.5 + draw(seed + 5, P).abs())
    ]
    pushes = [draw(seed + 10 + i, P) for i in range(2)]
    influence = parameter_influence(segments, [Constant(push) for push in pushes], steps=P)
    u = draw(seed + 20, P)
    backwards = sum(r @ push for r, push in zip(adjoint(segments, u, steps=P), pushes, strict=True))
    torch.testing.assert_close(u @ influence, backwards, rtol=1e-6, atol=1e-9)


def test_it_is_the_recursion() -> None:
    """Against the reference's recursion, stepped forward in small steps, where H is positive definite."""
    matrices = [symmetric(i) @ symmetric(i) + 0.1 * torch.eye(P, dtype=torch.float64) for i in range(2)]
    slope, p = draw(30, P), 0.5 + draw(31, P).abs()
    segments = [Segment(draw(32, P), 0.5, [Quadratic(m) for m in matrices], p)]
    found = parameter_influence(segments, [Constant(slope / 100)], steps=P)
    dense = [oracle.ReferenceCheckpoint(draw(32, P), 1.0, 0.1, 0.5, matrices, p)]
    stepped = oracle.recursion(lambda theta: slope @ theta, dense, 100.0, substeps=20_000)
    torch.testing.assert_close(found, stepped, rtol=1e-3, atol=0)


def test_progress_never_falls_and_ends_below_one() -> None:
    reported: list[float] = []
    segments = [Segment(draw(0, P), 0.4, [Quadratic(symmetric(i)) for i in range(2)])] * 2
    parameter_influence(segments, [Constant(draw(1, P))] * 2, steps=3, progress=reported.append)
    assert reported == sorted(reported)
    assert reported[0] == 0
    assert 0.5 < reported[-1] < 1


@pytest.mark.parametrize("batch_size", [7, 64])
def test_the_gradient_of_a_set_of_pairs(clip, pairs, batch_size: int) -> None:
    theta, chosen = clip.theta.double(), pairs(10, 8, seed=3)  # some of them are in B
    losses = ContrastiveLosses(clip.encode, clip.reference, clip.kind)
    found = ContrastiveSetLoss(losses, [chosen[:4], chosen[4:]], 100.0, batch_size).gradient(theta)
    masked = masked_members(chosen, clip.reference)

    def whole(point: Tensor) -> Tensor:
        return sample_losses(clip.encode(point, chosen), clip.encode(point, clip.reference), masked, clip.kind).sum()

    torch.testing.assert_close(found, oracle.gradient(whole, theta) / 100, rtol=1e-8, atol=1e-12)


# Retraining without S: digits and a network of one hidden layer, SGD with momentless minibatches.

HIDDEN, SAMPLES, BATCH, STEPS, PARTS = 16, 400, 64, 400, 5
LAYOUT = Layout(("in", "out"), (torch.Size((65, HIDDEN)), torch.Size((HIDDEN + 1, 10))))


def cross_entropies(theta: Tensor, batch: Tensor) -> Tensor:
    p = LAYOUT.unflatten(theta)
    one = torch.ones_like(batch[:, :1])
    hidden = torch.tanh(torch.cat([batch[:, :-1], one], 1) @ p["in"])
    return torch.nn.functional.cross_entropy(
        torch.cat([hidden, one], 1) @ p["out"], batch[:, -1].long(), reduction="none"
    )


def rate(step: int) -> float:
    return 0.2 * (1 - step / STEPS)


def digits() -> tuple[Tensor, Tensor]:
    """Return 400 samples to train on and as many others, as rows of 64 pixels and a class."""
    pixels, classes = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
    rows = torch.cat([pixels / 16 - 0.3, classes[:, None]], 1)[torch.randperm(len(classes), generator=_seeded(0))]
    return rows[:SAMPLES], rows[SAMPLES : 2 * SAMPLES]


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def train(samples: Tensor, absent: Tensor) -> list[Tensor]:
    """Return theta after each fifth of the steps; absent samples have no loss, all else is the same."""
    theta, order, saved = draw(1, LAYOUT.size) / 8, _seeded(2), []
    for step in range(STEPS):
        rows = torch.randperm(SAMPLES, generator=order)[:BATCH]
        kept = rows[~absent[rows]]
        theta = theta - rate(step) * MeanLoss(cross_entropies, [samples[kept]], BATCH).gradient(theta)
        if (step + 1) % (STEPS // PARTS) == 0:
            saved.append(theta)
    return saved


def test_it_foretells_retraining_without_the_set() -> None:
    samples, validation = digits()
    absent = torch.zeros(SAMPLES, dtype=torch.bool)
    absent[torch.randperm(SAMPLES, generator=_seeded(3))[:20]] = True
    with_all, without = train(samples, ~absent & absent), train(samples, absent)
    draws, each = _seeded(4), STEPS // PARTS
    segments = []
    for part, theta in enumerate(with_all):
        chosen = [torch.randperm(SAMPLES, generator=draws)[:256] for _ in range(5)]
        lr_sum = sum(rate(step) for step in range(part * each, (part + 1) * each))
        segments.append(Segment(theta, lr_sum, [MeanLoss(cross_entropies, [samples[c]], 256) for c in chosen]))
    removed = MeanLoss(cross_entropies, [samples[absent]], SAMPLES)
    influence = parameter_influence(segments, [removed] * PARTS)
    truth = without[-1] - with_all[-1]
    assert float(torch.cosine_similarity(influence, truth, dim=0)) > 0.75
    assert float((influence - truth).norm()) < 0.7 * float(truth.norm())
    for aim in (samples[absent], validation):
        before, after, reported = (
            float(cross_entropies(theta, aim).mean()) for theta in (with_all[-1], without[-1], with_all[-1] + influence)
        )
        assert (reported - before) / (after - before) == pytest.approx(1, abs=0.35)
