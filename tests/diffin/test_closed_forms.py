"""Every estimator on two problems whose gradients and Hessians are known on paper: least squares, and linear towers."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from diffin.adjoint import Segment
from diffin.autodiff import gradient, hvp
from diffin.batch_loss import ContrastiveLoss, MeanLoss
from diffin.contrastive import Encoded, LossKind, Pairs, batch_loss, masked_members, sample_losses
from diffin.layout import Layout
from diffin.prepare import (
    Checkpoint,
    Problem,
    coefficients,
    influence_directions,
    local_directions,
    prepare,
    total,
    trace_influence,
)
from diffin.samples import ContrastiveLosses, ModuleLosses
from diffin.self_influence import self_influence
from tests.diffin import oracle as oracle

ESTIMATORS = ("diffin", "diffin_eq9", "tracin")
N = 50.0
STEPS, LRS, LR_SUMS = (30.0, 70.0), (0.2, 0.1), (0.9, 0.7)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def fast_scores(checkpoints: list[Checkpoint], probes: object, size: int) -> dict[str, Tensor]:
    """Return the fast path's scores, with as many Lanczos steps as there are parameters: then they are exact."""
    problem = Problem(probes, probes, ESTIMATORS, N, lanczos_steps=size)
    influence = influence_directions(problem, checkpoints)
    terms = []
    for checkpoint, r in zip(checkpoints, influence, strict=True):
        directions = local_directions(problem, checkpoint) | {"influence": r}
        terms.append(prepare(problem, checkpoint, directions, len(checkpoints), centre=False).fast)
    return total(terms)


def fast_on_itself(checkpoints: list[Checkpoint], probes: object, size: int) -> dict[str, Tensor]:
    """Return the fast path's I(z, z) with the whole frame sqrt(p) e_i in the place of random vectors: then it is
    exact."""
    problem = Problem(probes, probes, ESTIMATORS, N)
    frame = size**0.5 * torch.eye(size, dtype=torch.float64)
    found = self_influence(problem, checkpoints, [probes[:2], probes[2:]], frame, lanczos_steps=size)
    return {name: estimate.value for name, estimate in found.items()}


def exponential(rates: Tensor, span: float) -> Tensor:
    return torch.matrix_exp(-span * rates)


def integral(rates: Tensor, span: float) -> Tensor:
    """Return the integral of exp(-s rates) over s from 0 to span, of an invertible matrix."""
    return torch.linalg.solve(rates, torch.eye(len(rates), dtype=rates.dtype) - exponential(rates, span))


# Least squares: l_z = 1/2 (x theta - y)^2, so G_z = x (x theta - y), H_z = x x^T, and L_B's are their means.

P = 4
X_B, Y_B = draw(0, 12, P), draw(1, 12)
X_V, Y_V = draw(2, 9, P), draw(3, 9)
X_Z, Y_Z = draw(4, 7, P), draw(5, 7)
THETAS = draw(6, 2, P)
PRECONDITIONERS = (None, 0.5 + torch.rand(P, dtype=torch.float64, generator=torch.Generator().manual_seed(7)))
MINIBATCHES = (slice(0, 6), slice(6, 12))


def squares(theta: Tensor, rows: Tensor) -> Tensor:
    return (rows[:, :-1] @ theta - rows[:, -1]) ** 2 / 2


def rows(x: Tensor, y: Tensor) -> Tensor:
    return torch.cat([x, y[:, None]], 1)


def least_squares(target: str) -> list[Checkpoint]:
    mean = lambda x, y: MeanLoss(squares, [rows(x, y)], len(x))  # noqa: E731
    minibatches = [mean(X_B[m], Y_B[m]) for m in MINIBATCHES]
    samples = ModuleLosses(squares)
    return [
        Checkpoint(
            Segment(theta, lr_sum, minibatches, p),
            step,
            lr,
            mean(X_B, Y_B),
            mean(X_V, Y_V) if target == "validation" else None,
            samples,
            samples,
        )
        for theta, lr_sum, p, step, lr in zip(THETAS, LR_SUMS, PRECONDITIONERS, STEPS, LRS, strict=True)
    ]


def by_hand(target: str) -> dict[str, Tensor]:
    """Return the scores (7,) of the samples; target is training, validation or self."""
    found = {name: torch.zeros(len(X_Z), dtype=torch.float64) for name in ESTIMATORS}
    g_end = X_Z * (X_Z @ THETAS[-1] - Y_Z)[:, None]
    v_end = X_V.T @ (X_V @ THETAS[-1] - Y_V) / len(X_V)
    b_end = X_B.T @ (X_B @ THETAS[-1] - Y_B) / len(X_B)
    u = {"training": b_end.expand(len(X_Z), P), "validation": v_end.expand(len(X_Z), P), "self": g_end}[target]
    for theta, lr_sum, p, step, lr in reversed(list(zip(THETAS, LR_SUMS, PRECONDITIONERS, STEPS, LRS, strict=True))):
        g = X_Z * (X_Z @ theta - Y_Z)[:, None]
        b = X_B.T @ (X_B @ theta - Y_B) / len(X_B)
        v_local = X_V.T @ (X_V @ theta - Y_V) / len(X_V)
        v = {"training": b.expand(len(X_Z), P), "validation": v_local.expand(len(X_Z), P), "self": g}[target]
        h_b = X_B.T @ X_B / len(X_B)
        found["tracin"] += lr / N * (v * g).sum(1)
        bracket = (v * (g @ h_b)).sum(1) + (v * X_Z).sum(1) * (X_Z @ b)
        found["diffin_eq9"] -= step * lr**2 / (N * 2) * bracket
        scale = torch.diag(torch.ones(P, dtype=torch.float64) if p is None else p)
        for m in reversed(MINIBATCHES):
            rates = X_B[m].T @ X_B[m] / 6 @ scale  # H P
            found["diffin"] += (u @ integral(rates, lr_sum / 2).T @ scale * g).sum(1) / N
            u = u @ exponential(rates, lr_sum / 2).T
    return found


@pytest.mark.parametrize("target", ["training", "validation"])
def test_least_squares(target: str) -> None:
    fast, exact = fast_scores(least_squares(target), rows(X_Z, Y_Z), P), by_hand(target)
    for name in ESTIMATORS:
        torch.testing.assert_close(fast[name], exact[name], rtol=0, atol=1e-6 * float(exact[name].abs().max()))


def test_two_draws_of_minibatches_give_the_mean_of_their_directions() -> None:
    problem = Problem(None, None, ESTIMATORS, N, lanczos_steps=P)
    once = least_squares("validation")
    turned = [replace(one.segment, minibatches=one.segment.minibatches[::-1]) for one in once]
    alone = [replace(one, segment=segment) for one, segment in zip(once, turned, strict=True)]
    twice = [replace(one, redrawn=segment) for one, segment in zip(once, turned, strict=True)]
    first, second = influence_directions(problem, once), influence_directions(problem, alone)
    found = trace_influence(problem, twice)
    assert len(found.resolutions) == 2
    for a, b, mean in zip(first, second, found.directions, strict=True):
        assert not torch.allclose(a, b, rtol=1e-3)
        torch.testing.assert_close(mean, (a + b) / 2)


def test_least_squares_on_itself() -> None:
    fast, exact = fast_on_itself(least_squares("training"), rows(X_Z, Y_Z), P), by_hand("self")
    for name in ESTIMATORS:
        torch.testing.assert_close(fast[name], exact[name], rtol=0, atol=1e-6 * float(exact[name].abs().max()))


def test_the_coefficients() -> None:
    checkpoint = least_squares("training")[1]  # t = 70, eta = 0.1
    found = coefficients(checkpoint, n_samples=640, checkpoints=5)
    assert found == pytest.approx({"diffin": 1 / 640, "tracin": 0.1 / 640, "diffin_eq9": -70 * 0.01 / (640 * 5)})


# Linear towers: InfoNCE over the bilinear scores <A x, C y>.

IMAGE, TEXT, WIDTH = 3, 4, 2
LAYOUT = Layout(("A", "C"), (torch.Size((WIDTH, IMAGE)), torch.Size((WIDTH, TEXT))))


def encode(theta: Tensor, pairs: Pairs) -> Encoded:
    p = LAYOUT.unflatten(theta)
    return Encoded(pairs.images @ p["A"].T, pairs.tokens @ p["C"].T, torch.ones_like(theta[0]), theta[0] * 0)


def towers_pairs(count: int, first_id: int) -> Pairs:
    ids = torch.arange(first_id, first_id + count)
    return Pairs(draw(first_id, count, IMAGE), draw(first_id + 1, count, TEXT), ids, ids)


@dataclass(frozen=True)
class LinearTowers:
    """The gradient and the Hessian of L = sum_i a_i [ 1/2 lse_j S_ij + 1/2 lse_j S_ji - S_ii ], S = X A^T C Y^T.

    With a_i = 1/R that is InfoNCE of a batch of R; with a = (1, 0, ..., 0) it is l_z of the first row against the
    others. Let Q, K be the row and the column softmax of S. The first derivative of lse is a softmax, the second its
    covariance, diag(q) - q q^T, so along a direction (A', C')

        G  = dL/dS = 1/2 diag(a) Q + 1/2 K diag(a) - diag(a)
        S' = X (A'^T C + A^T C') Y^T
        G' = 1/2 diag(a) (Q o S' - Q o rowsums(Q o S') 1^T) + 1/2 (K o S' - K o 1 columnsums(K o S')) diag(a)

    and as dS = X (dA^T C + A^T dC) Y^T,

        grad_A = C Y^T G^T X                       grad_C = A X^T G Y
        (H d)_A = C' Y^T G^T X + C Y^T G'^T X      (H d)_C = A' X^T G Y + A X^T G' Y.
    """

    images: Tensor
    texts: Tensor
    weights: Tensor

    @classmethod
    def batch(cls, pairs: Pairs) -> "LinearTowers":
        return cls(pairs.images, pairs.tokens, torch.full((len(pairs),), 1 / len(pairs), dtype=torch.float64))

    @classmethod
    def sample(cls, single: Pairs, reference: Pairs) -> "LinearTowers":
        weights = torch.eye(len(reference) + 1, dtype=torch.float64)[0]
        images, texts = torch.cat([single.images, reference.images]), torch.cat([single.tokens, reference.tokens])
        return cls(images, texts, weights)

    def gradient(self, theta: Tensor) -> Tensor:
        p, g = LAYOUT.unflatten(theta), self._slopes(theta)
        at_a = p["C"] @ self.texts.T @ g.T @ self.images
        at_c = p["A"] @ self.images.T @ g @ self.texts
        return LAYOUT.flatten({"A": at_a, "C": at_c})

    def hvp(self, theta: Tensor, direction: Tensor) -> Tensor:
        p, d, g = LAYOUT.unflatten(theta), LAYOUT.unflatten(direction), self._slopes(theta)
        moved = self.images @ (d["A"].T @ p["C"] + p["A"].T @ d["C"]) @ self.texts.T
        q, k = self._softmaxes(theta)
        by_row, by_column = q * moved, k * moved
        bend = self.weights[:, None] * (by_row - q * by_row.sum(1, keepdim=True)) / 2
        bend = bend + (by_column - k * by_column.sum(0, keepdim=True)) * self.weights / 2
        at_a = d["C"] @ self.texts.T @ g.T @ self.images + p["C"] @ self.texts.T @ bend.T @ self.images
        at_c = d["A"] @ self.images.T @ g @ self.texts + p["A"] @ self.images.T @ bend @ self.texts
        return LAYOUT.flatten({"A": at_a, "C": at_c})

    def hessian(self, theta: Tensor) -> Tensor:
        return torch.stack([self.hvp(theta, e) for e in torch.eye(len(theta), dtype=theta.dtype)])

    def _softmaxes(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        p = LAYOUT.unflatten(theta)
        scores = self.images @ p["A"].T @ p["C"] @ self.texts.T
        return scores.softmax(1), scores.softmax(0)

    def _slopes(self, theta: Tensor) -> Tensor:
        q, k = self._softmaxes(theta)
        return self.weights[:, None] * q / 2 + k * self.weights / 2 - torch.diag(self.weights)


B, V, Z = towers_pairs(9, 100), towers_pairs(6, 200), towers_pairs(5, 300)
TOWERS = 0.5 * draw(8, 2, LAYOUT.size)
HALVES = (slice(0, 4), slice(4, 9))


@pytest.mark.parametrize("batch_size", [4, 64])
def test_batch_loss_of_linear_towers(batch_size: int) -> None:
    loss, closed, direction = (
        ContrastiveLoss(encode, B, LossKind.INFO_NCE, batch_size),
        LinearTowers.batch(B),
        draw(9, LAYOUT.size),
    )
    torch.testing.assert_close(loss.gradient(TOWERS[0]), closed.gradient(TOWERS[0]))
    torch.testing.assert_close(loss.hvp(TOWERS[0], direction), closed.hvp(TOWERS[0], direction))


def test_sample_loss_of_linear_towers() -> None:
    closed, direction = LinearTowers.sample(Z[:1], B), draw(9, LAYOUT.size)
    samples = ContrastiveLosses(encode, B, LossKind.INFO_NCE)
    loss = lambda theta: samples.losses(theta, samples.context(theta), Z[:1])[0]  # noqa: E731
    torch.testing.assert_close(gradient(loss, TOWERS[0]), closed.gradient(TOWERS[0]))
    torch.testing.assert_close(hvp(loss, TOWERS[0], direction), closed.hvp(TOWERS[0], direction))


def linear_towers(target: str) -> list[Checkpoint]:
    loss = lambda pairs: ContrastiveLoss(encode, pairs, LossKind.INFO_NCE)  # noqa: E731
    samples = ContrastiveLosses(encode, B, LossKind.INFO_NCE)
    minibatches = [loss(B[half]) for half in HALVES]
    return [
        Checkpoint(
            Segment(theta, lr_sum, minibatches),
            t,
            lr,
            loss(B),
            loss(V) if target == "validation" else None,
            samples,
            samples,
        )
        for theta, lr_sum, t, lr in zip(TOWERS, LR_SUMS, STEPS, LRS, strict=True)
    ]


def towers_by_hand(target: str) -> dict[str, Tensor]:
    """Return the scores (5,) of the samples from the closed forms; the clamp at 0 by dense eigenvectors."""
    singles = [LinearTowers.sample(Z[i : i + 1], B) for i in range(len(Z))]
    whole = {"training": LinearTowers.batch(B), "validation": LinearTowers.batch(V)}
    aims = singles if target == "self" else [whole[target]] * len(Z)
    found: dict[str, list[Tensor]] = {name: [] for name in ESTIMATORS}
    for single, aim in zip(singles, aims, strict=True):
        tracin, eq9, diffin, u = 0.0, 0.0, 0.0, aim.gradient(TOWERS[-1])
        for theta, lr_sum, t, lr in reversed(list(zip(TOWERS, LR_SUMS, STEPS, LRS, strict=True))):
            v, g, b = (loss.gradient(theta) for loss in (aim, single, whole["training"]))
            tracin += lr / N * v @ g
            eq9 -= t * lr**2 / (N * 2) * v @ (whole["training"].hvp(theta, g) + single.hvp(theta, b))
            for half in reversed(HALVES):
                values, vectors = torch.linalg.eigh(LinearTowers.batch(B[half]).hessian(theta))
                rates = values.clamp_min(0)
                spans = torch.where(rates < 1e-10, lr_sum / 2, -torch.expm1(-lr_sum / 2 * rates) / rates)
                diffin += (vectors.T @ g) @ (spans * (vectors.T @ u)) / N
                u = vectors @ ((-lr_sum / 2 * rates).exp() * (vectors.T @ u))
        for name, value in zip(ESTIMATORS, (diffin, eq9, tracin), strict=True):
            found[name].append(value)
    return {name: torch.stack(values) for name, values in found.items()}


@pytest.mark.parametrize("target", ["training", "validation"])
def test_linear_towers(target: str) -> None:
    fast, exact = fast_scores(linear_towers(target), Z, LAYOUT.size), towers_by_hand(target)
    for name in ESTIMATORS:
        torch.testing.assert_close(fast[name], exact[name], rtol=0, atol=1e-5 * float(exact[name].abs().max()))


def test_linear_towers_on_themselves() -> None:
    fast, exact = fast_on_itself(linear_towers("training"), Z, LAYOUT.size), towers_by_hand("self")
    for name in ESTIMATORS:
        torch.testing.assert_close(fast[name], exact[name], rtol=0, atol=1e-5 * float(exact[name].abs().max()))


def oracle_losses() -> tuple[list[oracle.Loss], dict[str, oracle.Loss]]:
    def batch(pairs: Pairs) -> oracle.Loss:
        return lambda theta: batch_loss(encode(theta, pairs), masked_members(pairs, pairs), LossKind.INFO_NCE)

    def sample(single: Pairs) -> oracle.Loss:
        masked = masked_members(single, B)
        return lambda t: sample_losses(encode(t, single), encode(t, B), masked, LossKind.INFO_NCE)[0]

    return [sample(Z[i : i + 1]) for i in range(len(Z))], {"training": batch(B), "validation": batch(V)}


@pytest.mark.parametrize("target", ["training", "validation", "self"])
def test_the_reference_itself(target: str) -> None:
    """The float64 oracle of the other tests against the same closed forms."""
    samples, batches = oracle_losses()
    dense = [
        oracle.ReferenceCheckpoint(theta, t, lr, s, [LinearTowers.batch(B[half]).hessian(theta) for half in HALVES])
        for theta, t, lr, s in zip(TOWERS, STEPS, LRS, LR_SUMS, strict=True)
    ]
    estimates = {
        "diffin": lambda some, aim: oracle.diffin(some, aim, dense, N),
        "diffin_eq9": lambda some, aim: oracle.diffin_eq9(some, batches["training"], aim, dense, N),
        "tracin": lambda some, aim: oracle.tracin(some, aim, dense, N),
    }
    exact = towers_by_hand(target)
    for name, estimate in estimates.items():
        found = oracle.on_itself(estimate, samples) if target == "self" else estimate(samples, batches[target])
        torch.testing.assert_close(found, exact[name])
