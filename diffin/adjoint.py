"""The adjoint of Diff-In's recursion: one parameter-sized direction a checkpoint, shared by all samples.

    I^{t+1} = I^t - eta_t P_t (H_t I^t - G_z / N)

is linear in I, so <grad L_V(theta_T), I^T> = 1/N sum over segments of <r, G_z> with, backwards over a segment,
    u_start = exp(-S H P) u_end            S = sum of eta over a piece of the segment, H and P frozen in it
    r      += P phi_1(S H P) u_end         phi_1(S A) is here the integral of exp(-s A) ds from 0 to S
for one piece after another, each with the Hessian of a minibatch of its own, as training has one for each of its
steps. Frozen Hessians of one large batch follow training much less well (docs/method.md, section 8). exp and phi_1 act
on one vector each, so k Lanczos steps on P^1/2 H P^1/2 give them; its eigenvalues are clamped at 0.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffin.batch_loss import BatchLoss
from diffin.layout import dot, norm

LANCZOS_STEPS = 3
"""For each minibatch. More of them cost more and followed retraining no better (docs/method.md, section 8)."""


class NonFinite(ArithmeticError):
    """A vector on the way back through training is not finite: the training, or the trace of it, diverged.

    Attributes:
        segment: its position, counted from 0.
    """

    def __init__(self, what: str, segment: int | None = None) -> None:
        super().__init__(f"{what} is not finite")
        self.what, self.segment = what, segment


@dataclass(frozen=True)
class Segment:
    """A checkpoint and the training steps that it stands for: those since the checkpoint before it.

    Attributes:
        theta: (p,) parameters.
        lr_sum: S, sum of the learning rates of these steps.
        minibatches: losses of minibatches in the order of training; each stands for an equal share of lr_sum.
        preconditioner: (p,) P of the optimiser; 0 where training moves nothing; None for SGD.
    """

    theta: Tensor
    lr_sum: float
    minibatches: Sequence[BatchLoss]
    preconditioner: Tensor | None = None


def lanczos(matvec: Callable[[Tensor], Tensor], start: Tensor, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return basis (k, p), Ritz values (k,) and vectors (k, k) of a symmetric matrix in the Krylov space of `start`.

    Fully reorthogonalised, twice. k is less than `steps` if the space is exhausted before.

    Raises:
        NonFinite: the start, or a product, is not finite.
    """
    if not math.isfinite(norm(start)):
        raise NonFinite("the adjoint")
    basis = start.new_empty(steps, len(start))
    basis[0] = start / norm(start)
    diagonal: list[Tensor] = []
    off_diagonal: list[Tensor] = []
    for done in range(1, steps + 1):
        image = matvec(basis[done - 1])
        if not math.isfinite(norm(image)):
            raise NonFinite("a Hessian-vector product")
        diagonal.append(dot(image, basis[done - 1]))
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


def segment_directions(
    segment: Segment,
    u_end: Tensor,
    steps: int = LANCZOS_STEPS,
    progress: Callable[[int], None] = lambda product: None,
) -> tuple[Tensor, Tensor]:
    """Push the adjoint back over one segment: return r (p,) and u_start (p,), given u_end (p,).

    Args:
        steps: Lanczos steps for each minibatch.
        progress: called before each Hessian-vector product with its number.

    Cost: `steps` Hessian-vector products for each minibatch, and steps * p numbers of memory.
    """
    root = torch.ones_like(u_end) if segment.preconditioner is None else segment.preconditioner.sqrt()
    share = segment.lr_sum / len(segment.minibatches)
    products = itertools.count()
    y, r = root * u_end, torch.zeros_like(u_end)
    for loss in reversed(segment.minibatches):

        def matvec(vector: Tensor, loss: BatchLoss = loss) -> Tensor:
            progress(next(products))
            return root * loss.hvp(segment.theta, root * vector)

        y, integral = exp_and_phi(matvec, y, share, steps)
        r += integral
    return root * r, torch.where(root > 0, y / root, u_end)


def exp_and_phi(matvec: Callable[[Tensor], Tensor], vector: Tensor, lr_sum: float, steps: int) -> tuple[Tensor, Tensor]:
    """Return exp(-S A) y and phi_1(S A) y (p,) for a symmetric A whose negative eigenvalues are taken for 0."""
    if not vector.any():
        return vector, vector
    basis, values, vectors = lanczos(matvec, vector, steps)
    scaled = values.clamp_min(0) * lr_sum
    small = scaled < 1e-9  # where (1 - exp(-x)) / x is 1
    phi = lr_sum * torch.where(small, torch.ones_like(scaled), -torch.expm1(-scaled) / scaled.clamp_min(1e-30))
    first = vectors[0] * norm(vector)
    in_basis = lambda scale: (vectors @ (scale * first)).to(vector.dtype) @ basis  # noqa: E731
    return in_basis(torch.exp(-scaled)), in_basis(phi)


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

    Raises:
        NonFinite: u_end, a product or a direction is not finite; names the segment.
    """
    u, directions = u_end, []
    for done, segment in enumerate(reversed(segments)):
        each = steps * len(segment.minibatches)
        count = lambda product, d=done, e=each: progress((d + product / e) / len(segments))  # noqa: E731
        try:
            r, u = segment_directions(segment, u, steps, count)
        except NonFinite as error:
            raise NonFinite(error.what, len(segments) - 1 - done) from error
        directions.append(r)
    return directions[::-1]
