"""The estimators again, slowly, explicitly and in float64: per-sample gradients, dense Hessians, no differences.

This is the oracle of the tests. It shares no code with the fast path: reverse mode only, a loop over samples, and the
eigenvectors of dense Hessians where the fast path takes Lanczos steps. For models of a few thousand parameters.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

Loss = Callable[[Tensor], Tensor]
"""theta (p,) float64 -> scalar."""


@dataclass(frozen=True)
class ReferenceCheckpoint:
    """A checkpoint and its segment.

    Attributes:
        theta, step, lr: theta_t (p,), t, eta_t.
        lr_sum: S, sum of eta over the segment.
        hessians: (p, p) each, of the segment's minibatches in the order of training.
        preconditioner: P (p,) or None.
    """

    theta: Tensor
    step: float
    lr: float
    lr_sum: float
    hessians: Sequence[Tensor]
    preconditioner: Tensor | None = None


def gradient(loss: Loss, theta: Tensor) -> Tensor:
    """Return grad loss (p,)."""
    theta = theta.detach().requires_grad_()
    with sdpa_kernel(SDPBackend.MATH):
        return torch.autograd.grad(loss(theta), theta)[0]


def hvp(loss: Loss, theta: Tensor, vector: Tensor) -> Tensor:
    """Return H vector (p,), reverse over reverse."""
    theta = theta.detach().requires_grad_()
    with sdpa_kernel(SDPBackend.MATH):
        slope = torch.autograd.grad(loss(theta), theta, create_graph=True)[0]
        return torch.autograd.grad(slope @ vector, theta)[0]


def hessian(loss: Loss, theta: Tensor) -> Tensor:
    """Return H (p, p), reverse over reverse for many columns at once, symmetrised."""
    theta = theta.detach().requires_grad_()
    with sdpa_kernel(SDPBackend.MATH):
        slope = torch.autograd.grad(loss(theta), theta, create_graph=True)[0]
        identity = torch.eye(len(theta), dtype=theta.dtype).split(256)
        columns = [
            torch.autograd.grad(slope, theta, grad_outputs=some, is_grads_batched=True, retain_graph=True)[0]
            for some in identity
        ]
    matrix = torch.cat(columns)
    return (matrix + matrix.T) / 2


def eq9_terms(sample: Loss, reference: Loss, target: Loss, theta: Tensor) -> tuple[float, float]:
    """Return <v, H_B G_z> and <v, H_z G_B> of arXiv 2508.14648 eq. 9, v = grad L_V."""
    v = gradient(target, theta)
    first = v @ hvp(reference, theta, gradient(sample, theta))
    second = v @ hvp(sample, theta, gradient(reference, theta))
    return float(first), float(second)


def diffin_eq9(
    samples: Sequence[Loss], reference: Loss, target: Loss, checkpoints: Sequence[ReferenceCheckpoint], n_samples: float
) -> Tensor:
    """Return -1/(N m) sum_t t eta_t^2 (<v, H_B G_z> + <v, H_z G_B>) for each sample (n,)."""
    total = torch.zeros(len(samples), dtype=torch.float64)
    for c in checkpoints:
        brackets = [sum(eq9_terms(sample, reference, target, c.theta)) for sample in samples]
        total -= c.step * c.lr**2 * torch.tensor(brackets, dtype=torch.float64)
    return total / (n_samples * len(checkpoints))


def tracin(
    samples: Sequence[Loss], target: Loss, checkpoints: Sequence[ReferenceCheckpoint], n_samples: float
) -> Tensor:
    """Return 1/N sum_t eta_t <grad L_V, G_z> for each sample (n,)."""
    total = torch.zeros(len(samples), dtype=torch.float64)
    for c in checkpoints:
        v = gradient(target, c.theta)
        total += c.lr * torch.stack([v @ gradient(sample, c.theta) for sample in samples])
    return total / n_samples


def diffin(
    samples: Sequence[Loss],
    target: Loss,
    checkpoints: Sequence[ReferenceCheckpoint],
    n_samples: float,
    krylov: int | None = None,
) -> Tensor:
    """Return 1/N sum over segments of <r_t, G_z(theta_t)> for each sample (n,), r_t by dense eigenvectors.

    Args:
        krylov: dimension of the space onto which each Hessian is projected, that of u, A u, A^2 u, ...; None: all.
    """
    u = gradient(target, checkpoints[-1].theta)
    total = torch.zeros(len(samples), dtype=torch.float64)
    for c in reversed(checkpoints):
        root = torch.ones_like(u) if c.preconditioner is None else c.preconditioner.sqrt()
        share, r = c.lr_sum / len(c.hessians), torch.zeros_like(u)
        for matrix in reversed(c.hessians):
            whole = root[:, None] * matrix * root[None, :]
            basis = torch.eye(len(u), dtype=u.dtype) if krylov is None else _krylov_basis(whole, root * u, krylov)
            values, vectors = torch.linalg.eigh(basis.T @ whole @ basis)
            values, vectors = values.clamp_min(0), basis @ vectors
            inner = vectors.T @ (root * u)
            phi = torch.where(values * share < 1e-12, share, -torch.expm1(-share * values) / values)
            r += root * (vectors @ (phi * inner))
            u = torch.where(root > 0, (vectors @ ((-share * values).exp() * inner)) / root, u)
        total += torch.stack([r @ gradient(sample, c.theta) for sample in samples])
    return total / n_samples


def _krylov_basis(matrix: Tensor, vector: Tensor, size: int) -> Tensor:
    """Return an orthonormal basis (p, size) of the span of y, A y, ..., A^(size-1) y."""
    columns = [vector / vector.norm()]
    for _ in range(size - 1):
        image = matrix @ columns[-1]
        columns.append(image / image.norm())
    return torch.linalg.qr(torch.stack(columns, 1))[0]


def on_itself(estimate: Callable[[Sequence[Loss], Loss], Tensor], samples: Sequence[Loss]) -> Tensor:
    """Return I(z, z) (n,): `estimate`(samples, target) of each sample with that sample as the target."""
    return torch.cat([estimate([sample], sample) for sample in samples])


def recursion(sample: Loss, checkpoints: Sequence[ReferenceCheckpoint], n_samples: float, substeps: int) -> Tensor:
    """Return I^T (p,), the forward recursion I <- I - eta P (H I - G_z / N) itself, `substeps` Euler steps a minibatch.

    No clamp: it equals the adjoint form where H is positive semi-definite, as substeps grow.
    """
    influence = torch.zeros_like(checkpoints[0].theta)
    for c in checkpoints:
        precondition = torch.ones_like(influence) if c.preconditioner is None else c.preconditioner
        own = gradient(sample, c.theta) / n_samples
        eta = c.lr_sum / len(c.hessians) / substeps
        for matrix in c.hessians:
            for _ in range(substeps):
                influence = influence - eta * precondition * (matrix @ influence - own)
    return influence
