"""The adjoint of Diff-In's recursion: one parameter-sized direction a checkpoint, shared by all samples.

    I^{t+1} = I^t - eta_t P_t (H_B I^t - G_z / N)

is linear in I, so <grad L_V(theta_T), I^T> = 1/N sum over segments of <r_t, G_z(theta_t)> with
    u_T     = grad L_V(theta_T)
    u_start = exp(-S H P) u_end            S = sum of eta over the segment, H and P frozen in it
    r       = P phi_1(S H P) u_end         phi_1(S A) is here the integral of exp(-s A) ds from 0 to S
exp and phi_1 act on one vector each, so k Lanczos steps on P^1/2 H P^1/2 give them; its eigenvalues are clamped at 0.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffin.batch_loss import BatchLoss

LANCZOS_STEPS = 15


@dataclass(frozen=True)
class Segment:
    """A checkpoint and the training steps that it stands for: those since the checkpoint before it.

    Attributes:
        theta: (p,) parameters.
        lr_sum: S, sum of the learning rates of these steps.
        reference: L_B there.
        preconditioner: (p,) P of the optimiser, positive; None for SGD.
    """

    theta: Tensor
    lr_sum: float
    reference: BatchLoss
    preconditioner: Tensor | None = None


def lanczos(matvec: Callable[[Tensor], Tensor], start: Tensor, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return basis (k, p), Ritz values (k,) and vectors (k, k) of a symmetric matrix in the Krylov space of `start`.

    Fully reorthogonalised, twice. k is less than `steps` if the space is exhausted before.
    """
    basis = start.new_empty(steps, len(start))
    basis[0] = start / start.norm()
    diagonal: list[Tensor] = []
    off_diagonal: list[Tensor] = []
    for done in range(1, steps + 1):
        image = matvec(basis[done - 1])
        diagonal.append(_dot(image, basis[done - 1]))
        rest = _orthogonalise(image, basis[:done])
        size = rest.norm()
        if done == steps or size <= 1e-6 * image.norm():
            break
        off_diagonal.append(size.double())
        basis[done] = rest / size
    matrix = torch.diag(torch.stack(diagonal))
    if off_diagonal:
        above = torch.diag(torch.stack(off_diagonal), 1)
        matrix = matrix + above + above.T
    values, vectors = torch.linalg.eigh(matrix)
    return basis[: len(diagonal)], values, vectors


def _orthogonalise(vector: Tensor, basis: Tensor) -> Tensor:
    for _ in range(2):
        vector = vector - (basis @ vector) @ basis
    return vector


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Return <a, b> accumulated in float64, in pieces, so that no float64 copy of a long vector is made."""
    pieces = zip(a.split(1 << 22), b.split(1 << 22), strict=True)
    return torch.stack([x.double() @ y.double() for x, y in pieces]).sum()


def segment_directions(
    segment: Segment,
    u_end: Tensor,
    steps: int = LANCZOS_STEPS,
    progress: Callable[[int], None] = lambda product: None,
) -> tuple[Tensor, Tensor]:
    """Push the adjoint back over one segment: return r (p,) and u_start (p,), given u_end (p,).

    Cost: `steps` Hessian-vector products, and steps * p numbers of memory.
    """
    if not u_end.any():
        return torch.zeros_like(u_end), u_end
    root = torch.ones_like(u_end) if segment.preconditioner is None else segment.preconditioner.sqrt()
    start = root * u_end
    products = itertools.count()

    def matvec(vector: Tensor) -> Tensor:
        progress(next(products))
        return root * segment.reference.hvp(segment.theta, root * vector)

    basis, values, vectors = lanczos(matvec, start, steps)
    decay, phi = _exp_and_phi(values, segment.lr_sum)
    first = vectors[0] * start.norm().double()
    in_basis = lambda scale: (vectors @ (scale * first)).to(u_end.dtype) @ basis  # noqa: E731
    return root * in_basis(phi), in_basis(decay) / root


def _exp_and_phi(eigenvalues: Tensor, lr_sum: float) -> tuple[Tensor, Tensor]:
    """Return exp(-S lambda) and phi_1 = (1 - exp(-S lambda)) / lambda, lambda clamped at 0, where phi_1 = S."""
    scaled = eigenvalues.clamp_min(0) * lr_sum
    phi = torch.where(scaled < 1e-9, torch.ones_like(scaled), -torch.expm1(-scaled) / scaled.clamp_min(1e-30))
    return torch.exp(-scaled), lr_sum * phi


def adjoint(
    segments: Sequence[Segment],
    u_end: Tensor,
    steps: int = LANCZOS_STEPS,
    progress: Callable[[float], None] = lambda share: None,
) -> list[Tensor]:
    """Return the direction r_t (p,) of every segment, in the segments' order, before the division by N.

    Args:
        u_end: (p,) grad L_V at the last segment's theta.
        progress: called before each Hessian-vector product, with the share of them that is done.
    """
    u, directions = u_end, []
    for done, segment in enumerate(reversed(segments)):
        count = lambda product, d=done: progress((d + product / steps) / len(segments))  # noqa: E731
        r, u = segment_directions(segment, u, steps, count)
        directions.append(r)
    return directions[::-1]
